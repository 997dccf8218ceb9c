//! Asks NVML once and prints the answer as JSON.
//!
//! A program of its own because NVML is a shared library of the driver, which a static binary cannot
//! load, and because a driver in trouble hangs or crashes whoever asks it: muster puts a time limit on
//! this program and goes on without it. Must not keep a limit itself, and must not fail: why there is
//! no answer is an answer.

use std::ffi::OsStr;
use std::io::Write as _;

use muster_nvml::{Answer, SCHEMA};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

mod ask;

/// By the loader's own search first, then where GKE, WSL and container images of old keep it without
/// telling the loader.
const LIBRARIES: [&str; 4] = [
    "libnvidia-ml.so.1",
    "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/usr/lib64/libnvidia-ml.so.1",
];

fn main() {
    let answer = match load() {
        Ok(nvml) => ask::everything(&nvml),
        Err(failed) => Answer { schema: SCHEMA, failed: Some(failed), ..Answer::default() },
    };
    if let Ok(json) = serde_json::to_vec(&answer) {
        // Who does not read it has given up on us.
        let _ = std::io::stdout().write_all(&json);
    }
    // Not through NVML's shutdown, nor the destructors of a library that may be in trouble.
    let _ = std::io::stdout().flush();
    std::process::exit(0);
}

/// The first of the libraries that there is. One that is there and does not start decides: another
/// copy would speak to the same driver.
fn load() -> Result<Nvml, String> {
    let mut absent = None;
    for library in LIBRARIES {
        match Nvml::builder().lib_path(OsStr::new(library)).init() {
            Ok(nvml) => return Ok(nvml),
            Err(NvmlError::LibloadingError(error)) => {
                absent.get_or_insert_with(|| format!("cannot load NVML: {error}"));
            }
            Err(error) => return Err(format!("NVML does not start: {error}")),
        }
    }
    Err(absent.unwrap_or_default())
}
