//! Tells the binary its commit, for `--version`, and embeds the NVML helper that
//! `MUSTER_NVML_HELPER` names (`agent/nvml/build` makes it). Without one the build works, and its
//! `muster devices` knows NVIDIA's GPUs from the kernel's files alone.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Where an ELF file says for which machine it is, and the numbers that matter here (elf(5)).
const MACHINE: std::ops::Range<usize> = 18..20;
const MACHINES: [(&str, [u8; 2]); 2] = [("x86_64", [62, 0]), ("aarch64", [183, 0])];

fn main() -> Result<(), Box<dyn Error>> {
    embed_helper()?;
    println!("cargo:rerun-if-env-changed=MUSTER_COMMIT");
    println!("cargo:rerun-if-changed=../.git/HEAD");
    println!("cargo:rerun-if-changed=../.git/logs/HEAD");
    let given = env::var("MUSTER_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo:rustc-env=MUSTER_VERSION={version} ({commit})");
    Ok(())
}

fn embed_helper() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=MUSTER_NVML_HELPER");
    let helper = env::var_os("MUSTER_NVML_HELPER").filter(|path| !path.is_empty());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let value = match helper.map(PathBuf::from) {
        Some(path) => {
            println!("cargo:rerun-if-changed={}", path.display());
            let program = checked(&path)?;
            let packed = out.join("helper.z");
            let mut encoder = ZlibEncoder::new(fs::File::create(&packed)?, Compression::best());
            encoder.write_all(&program)?;
            encoder.finish()?;
            format!("Some(include_bytes!({packed:?}))")
        }
        None => "None".to_owned(),
    };
    let code =
        format!("/// The NVML helper, as zlib packs it.\nconst HELPER: Option<&[u8]> = {value};\n");
    Ok(fs::write(out.join("helper.rs"), code)?)
}

/// A helper for another machine would only be found out where it is needed.
fn checked(path: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let elf = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    let expected = MACHINES.iter().find(|(name, _)| *name == target).map(|(_, number)| number);
    if expected.is_none_or(|number| elf.get(MACHINE) != Some(number)) {
        return Err(format!("{} is no program for {target}", path.display()).into());
    }
    Ok(elf)
}

/// An image is often built from an export without `.git`; then `MUSTER_COMMIT` may say it.
fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| commit.trim().to_owned())
}
