//! The PEM files that mpi-operator makes of its keys (SEC 1 appendix C.4), read without arithmetic.
//!
//! russh computes the public half of a P-521 key anew, which takes a millisecond in each process; here the one
//! that stands in the file is taken. Should the two not belong together, every signature with them is refused.

use russh::keys::PrivateKey;
use russh::keys::ssh_key::encoding::{Decode as _, Encode as _};
use russh::keys::ssh_key::private::KeypairData;
use sec1::EcPrivateKey;

/// The object identifiers of curves (RFC 5480 section 2.1.1.1), and their names (RFC 5656 section 10.1).
const CURVES: [(&str, &str); 3] = [
    ("1.2.840.10045.3.1.7", "nistp256"),
    ("1.3.132.0.34", "nistp384"),
    ("1.3.132.0.35", "nistp521"),
];

/// The key of such a file; none where it is of another form, lacks the public half, or is damaged.
pub(super) fn read(text: &str) -> Option<PrivateKey> {
    let (label, der) = pem_rfc7468::decode_vec(text.as_bytes()).ok()?;
    if label != "EC PRIVATE KEY" {
        return None;
    }
    let key = EcPrivateKey::try_from(&der[..]).ok()?;
    let oid = key.parameters?.named_curve()?.to_string();
    let (_, curve) = CURVES.iter().find(|(known, _)| *known == oid)?;
    let mut wire = zeroize::Zeroizing::new(Vec::new());
    let algorithm = format!("ecdsa-sha2-{curve}");
    for part in [algorithm.as_bytes(), curve.as_bytes(), key.public_key?, key.private_key] {
        part.encode(&mut *wire).ok()?;
    }
    PrivateKey::try_from(KeypairData::decode(&mut &wire[..]).ok()?).ok()
}
