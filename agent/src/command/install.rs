//! `muster install`.

use std::path::PathBuf;

use crate::cli::InstallArgs;
use crate::config::env::Environment;
use crate::exit::{Class, Failure};
use crate::image::install::{CLIENTS, Link, SERVER, hidden, own_file};
use crate::text::say;

/// Makes the links, and says what was done; none where one of them cannot be made.
pub(super) fn run(args: &InstallArgs) -> Result<Class, Failure> {
    let program = own_file()?;
    let env = Environment::from_process();
    let search = env.get("PATH").unwrap_or_default();
    let both = !args.ssh && !args.sshd;
    let clients = CLIENTS.iter().filter(|_| both || args.ssh).map(|name| args.dir.join(name));
    let servers = [args.sshd_dir.join(SERVER)].into_iter().filter(|_| both || args.sshd);
    let plan = |path: PathBuf| Link::plan(&path, &program, args.force);
    let clients = clients.map(plan).collect::<Result<Vec<_>, _>>()?;
    let servers = servers.map(plan).collect::<Result<Vec<_>, _>>()?;
    for link in clients.iter().chain(&servers) {
        link.make()?;
        say(&link.to_string());
    }
    for why in clients.iter().filter_map(|link| hidden(&link.path, &program, search)) {
        say(&format!("warning: {why}"));
    }
    Ok(Class::Ok)
}
