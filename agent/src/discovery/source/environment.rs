//! What variables and well-known files say of the hosts, in the order of precedence.
//!
//! Must not look at flags.

use std::path::{Path, PathBuf};

use super::{Answer, Source, SourceError, named};
use crate::config::variables;
use crate::discovery::hostfile;
use crate::discovery::operator::{self, MPI_HOSTFILE, Machine, Operator, VOLCANO_FOLDER};
use crate::discovery::roster::Place;

/// A place to look: none where it says nothing.
type Look = fn(&Machine<'_>) -> Answer;

/// The first that says anything is the only one asked.
pub(super) const IN_ORDER: [Look; 5] =
    [file_variable, usual_file, volcano, sage_maker, azure_batch];

fn file_variable(machine: &Machine<'_>) -> Answer {
    let names = [
        variables::OMPI_DEFAULT_HOSTFILE,
        variables::PRTE_DEFAULT_HOSTFILE,
        variables::I_MPI_HYDRA_HOST_FILE,
        variables::HYDRA_HOST_FILE,
    ];
    // Open MPI's word for "no default hostfile, not even the one of the installation".
    let set = |name| machine.env.non_empty(name).filter(|path| *path != "none");
    let Some((name, path)) = names.into_iter().find_map(|name| Some((name, set(name)?))) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    let read = hostfile::read(&machine.locate(&path));
    named(Source::FileVariable { name, path }, read)
}

fn usual_file(machine: &Machine<'_>) -> Answer {
    file_if_there(machine, Path::new(MPI_HOSTFILE))
}

fn file_if_there(machine: &Machine<'_>, path: &Path) -> Answer {
    let located = machine.locate(path);
    // A file that may be there but cannot be looked at is for `read` to complain of.
    if !located.try_exists().unwrap_or(true) {
        return Ok(None);
    }
    named(Source::File(path.to_owned()), hostfile::read(&located))
}

fn volcano(machine: &Machine<'_>) -> Answer {
    if operator::detect(machine).operator != Operator::Volcano {
        return Ok(None);
    }
    if let Some(list) = machine.env.non_empty(variables::MPI_HOST) {
        return named(
            Source::ListVariable(variables::MPI_HOST.to_owned()),
            hostfile::parse_list(list),
        );
    }
    let lists: Vec<(&str, &str)> = machine
        .env
        .iter()
        .filter(|(name, list)| {
            let task = variables::part(variables::VC_TASK_HOSTS, name);
            task.is_some_and(|task| task.ends_with("WORKER")) && !list.is_empty()
        })
        .collect();
    match lists.as_slice() {
        [] => {}
        [(name, list)] => {
            return named(Source::ListVariable((*name).to_owned()), hostfile::parse_list(list));
        }
        several => {
            let names = several.iter().map(|(name, _)| (*name).to_owned()).collect();
            return Err(SourceError::Ambiguous(names));
        }
    }
    match volcano_files(machine).as_slice() {
        [] => Ok(None),
        [path] => file_if_there(machine, path),
        several => {
            let names = several.iter().map(|path| path.display().to_string()).collect();
            Err(SourceError::Ambiguous(names))
        }
    }
}

/// The files of tasks whose names end in `worker`, in the order of their names.
fn volcano_files(machine: &Machine<'_>) -> Vec<PathBuf> {
    let folder = Path::new(VOLCANO_FOLDER);
    let Ok(entries) = std::fs::read_dir(machine.locate(folder)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut files: Vec<PathBuf> =
        names.filter(|name| name.ends_with("worker.host")).map(|name| folder.join(name)).collect();
    files.sort_unstable();
    files
}

fn sage_maker(machine: &Machine<'_>) -> Answer {
    let name = variables::SM_HOSTS;
    let Some(text) = machine.env.non_empty(name) else { return Ok(None) };
    let hosts: Vec<String> =
        serde_json::from_str(text).map_err(|error| SourceError::NotJson { name, error })?;
    let entries = hosts.iter().enumerate();
    let parsed =
        hostfile::collect(entries.map(|(index, host)| (Place::Entry(index + 1), host.as_bytes())));
    named(Source::ListVariable(name.to_owned()), parsed)
}

fn azure_batch(machine: &Machine<'_>) -> Answer {
    let name = variables::AZ_BATCH_HOST_LIST;
    let Some(list) = machine.env.non_empty(name) else { return Ok(None) };
    named(Source::ListVariable(name.to_owned()), hostfile::parse_list(list))
}

/// Running a job of many nodes on one of them, and calling it a success, is the worst answer.
pub(super) fn unlisted(machine: &Machine<'_>) -> Result<(), SourceError> {
    let nodes = machine.env.non_empty(variables::AWS_BATCH_JOB_NUM_NODES);
    match nodes.and_then(|nodes| nodes.parse().ok()) {
        Some(nodes) if nodes > 1 => {
            Err(SourceError::Unlisted { operator: Operator::AwsBatch, nodes })
        }
        _ => Ok(()),
    }
}
