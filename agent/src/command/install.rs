//! `muster install`.

use crate::cli::InstallArgs;
use crate::config::env::Environment;
use crate::exit::{Class, Failure};
use crate::image::install::{CLIENTS, SERVER, hidden, link, own_file};
use crate::text::say;

/// Makes the links, and says what was done; all of them are tried.
pub(super) fn run(args: &InstallArgs) -> Result<Class, Failure> {
    let program = own_file()?;
    let env = Environment::from_process();
    let search = env.get("PATH").unwrap_or_default();
    let both = !args.ssh && !args.sshd;
    let clients = CLIENTS.iter().filter(|_| both || args.ssh).map(|name| args.dir.join(name));
    let servers = [args.sshd_dir.join(SERVER)].into_iter().filter(|_| both || args.sshd);
    let mut failure = None;
    for (path, is_client) in
        clients.map(|path| (path, true)).chain(servers.map(|path| (path, false)))
    {
        match link(&path, &program, args.force) {
            Ok(made) => say(&made.to_string()),
            Err(error) => {
                failure.get_or_insert(error);
                continue;
            }
        }
        if let Some(why) = hidden(&path, &program, search).filter(|_| is_client) {
            say(&format!("warning: {why}"));
        }
    }
    failure.map_or(Ok(Class::Ok), |error| Err(error.into()))
}
