//! The limits that the kernel holds this process to.
//!
//! Must not change those of a worker, which its ranks would get.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one. The usual 1,024 is the bound of what `select`
/// can handle, which nothing here calls; a launcher holds several descriptors a host. mpirun, which
/// needs as many, inherits it.
pub fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it is refused, the first descriptor that is missing will tell.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
