//! A second key of the job, quick to sign with, that follows from the first: who does not hold the first
//! cannot know it. See docs/adr/0011.
//!
//! Must stay what it is: workers and launchers of different versions derive it alike.

use hkdf::Hkdf;
use russh::keys::ssh_key::Algorithm;
use russh::keys::ssh_key::encoding::Encode as _;
use russh::keys::ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey};
use russh::keys::{Error, PrivateKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What the derivation is for: another purpose makes another key (RFC 5869 section 3.2).
const PURPOSE: &[u8] = b"muster: Ed25519 key of a job, 1";

/// The Ed25519 key of whoever holds `key`; none where that is one itself. HKDF-SHA-256 over its wire form
/// gives the seed.
///
/// # Errors
/// The key cannot be written in its wire form.
pub(super) fn derive(key: &PrivateKey) -> Result<Option<PrivateKey>, Error> {
    if key.algorithm() == Algorithm::Ed25519 {
        return Ok(None);
    }
    let secret = Zeroizing::new(key.key_data().encode_vec()?);
    let mut seed = Zeroizing::new([0; Ed25519PrivateKey::BYTE_SIZE]);
    let derivation = Hkdf::<Sha256>::new(None, &secret);
    derivation.expand(PURPOSE, &mut *seed).map_err(|_| Error::KeyIsCorrupt)?;
    Ok(Some(PrivateKey::from(Ed25519Keypair::from_seed(&seed))))
}

#[cfg(test)]
mod tests {
    use russh::keys::ssh_key::encoding::Decode as _;
    use russh::keys::ssh_key::private::KeypairData;

    use super::*;

    /// The generator of P-256 (SEC 2 section 2.4.2): the public half of the key 1.
    const GENERATOR: [u128; 4] = [
        0x6b17d1f2_e12c4247_f8bce6e5_63a440f2,
        0x77037d81_2deb33a0_f4a13945_d898c296,
        0x4fe342e2_fe1a7f9b_8ee7eb4a_7c0f9e16,
        0x2bce3357_6b315ece_cbb64068_37bf51f5,
    ];

    /// The P-256 key 1 in its wire form (RFC 5656 section 3.1, and the scalar).
    fn one() -> PrivateKey {
        let point: Vec<u8> =
            [4].into_iter().chain(GENERATOR.into_iter().flat_map(u128::to_be_bytes)).collect();
        let mut scalar = [0; 32];
        scalar[31] = 1;
        let mut wire = Vec::new();
        for part in [&b"ecdsa-sha2-nistp256"[..], b"nistp256", &point, &scalar] {
            part.encode(&mut wire).unwrap();
        }
        PrivateKey::try_from(KeypairData::decode(&mut &wire[..]).unwrap()).unwrap()
    }

    #[test]
    fn every_version_derives_the_same_key() {
        let derived = derive(&one()).unwrap().unwrap();
        // As another implementation of HKDF and Ed25519 has it.
        let expected =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA52S/b6+dXozCINRjbY5w+A1N9C3+0dy7N1H54FIHs/";
        assert_eq!(derived.public_key().to_openssh().unwrap(), expected);
    }

    #[test]
    fn an_ed25519_key_needs_no_other() {
        let derived = derive(&one()).unwrap().unwrap();
        assert_eq!(derive(&derived).unwrap(), None);
    }
}
