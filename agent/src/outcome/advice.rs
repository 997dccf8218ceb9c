//! Words about classes and codes: what to look at, what to do, whether a retry can help.
//!
//! Must not know of a particular run. The README's table is made here too.

use std::fmt::Write as _;

use crate::exit::Class;

/// What to do, the likeliest first.
#[must_use]
pub fn remedies(class: Class) -> &'static [&'static str] {
    match class {
        Class::Ok => &[],
        Class::AppError => &["read the first lines that the rank wrote when it failed"],
        Class::AppAbort => &["read what the rank wrote before it called MPI_Abort"],
        Class::AppCrash => &["get a core dump or run with a debug build to see where it crashed"],
        Class::HostOom => &["give each worker more memory, or run fewer ranks on a host"],
        Class::GpuOom => &["make the batch or the model's share on a device smaller"],
        Class::NotEnoughSlots => &["ask for fewer ranks, or give the hosts more slots"],
        Class::CommandNotFound => &["check program, libraries and PATH in the image of every host"],
        Class::MpiMismatch => &["use the same MPI, in the same version, everywhere"],
        Class::AuthFailed => &["mount the same key in every pod, readable by the job's user"],
        Class::Config => &["correct the flag, file or variable that is named"],
        Class::Placement => {
            &["compare the hosts of the plan (muster hosts) with those that ranks ran on"]
        }
        Class::LocalResource => &["free or enlarge what is full, or raise the limit"],
        Class::Internal => &["report it, with the output of muster -vv"],
        Class::Terminated => &["run again; who stopped it knows why"],
        Class::NameResolution => {
            &["check names, the headless Service and the resolver of every host"]
        }
        Class::WorkersNotReady => {
            &["see why the workers are not up: kubectl get pods, kubectl describe pod"]
        }
        Class::WorkerLost => &["run again; if the same host is lost again, leave it out"],
        Class::Evicted => &["run again from the last checkpoint"],
        Class::DaemonFailed => &["read the line before: ssh, the shell or the loader says why"],
        Class::Fabric => &["test the network between the hosts that are named; run again"],
        Class::GpuFault => &["drain the node and test its GPUs; run again elsewhere"],
        Class::Stalled => &["see what the rank that is late was doing; run again"],
    }
}

/// What to look at, in a sentence.
#[must_use]
pub fn look_at(class: Class) -> &'static str {
    match class {
        Class::Ok => "Nothing.",
        Class::AppError | Class::AppAbort => "The output of the rank that the verdict names.",
        Class::AppCrash => "A core dump, or the backtrace in the rank's output.",
        Class::HostOom => "The memory limit of the worker and what the ranks used at most.",
        Class::GpuOom => "What one rank needs on its device, and who else uses the device.",
        Class::NotEnoughSlots => {
            "muster hosts: the slots of each host, against the ranks asked for."
        }
        Class::CommandNotFound => {
            "The program's path and its libraries (ldd) on the host that is named."
        }
        Class::MpiMismatch => "mpirun --version on every host, and ldd of the program.",
        Class::AuthFailed => "The key's mount, its mode and its owner, on both ends.",
        Class::Config => "The words of the message: they name what was refused.",
        Class::Placement => {
            "The hostfile and the variables that mpirun saw: muster launch --dry-run."
        }
        Class::LocalResource => "df, ulimit -a, and who listens on the port.",
        Class::Internal => "The last lines of muster -vv.",
        Class::Terminated => "Who deleted or stopped the job.",
        Class::NameResolution => "The Service's name, its selector, and publishNotReadyAddresses.",
        Class::WorkersNotReady => "The workers' pods and logs.",
        Class::WorkerLost => "The node's events: reboot, drain, spot reclaim.",
        Class::Evicted => "The pod's events: preemption, pressure on the node, a time limit.",
        Class::DaemonFailed => {
            "Whether orted, prted or hydra_pmi_proxy starts by hand on that host."
        }
        Class::Fabric => "Ports, cables, firewalls and limits of locked memory on the hosts named.",
        Class::GpuFault => "The kernel's log on the host: NVRM, Xid.",
        Class::Stalled => "The stacks of all ranks while they hang: py-spy dump, gdb.",
    }
}

/// What was asked about: a code or a class.
#[must_use]
pub fn about(word: &str) -> Option<String> {
    if let Some(class) = Class::ALL.into_iter().find(|class| class.name() == word) {
        return Some(class_words(class));
    }
    let code: u8 = word.parse().ok()?;
    match Class::ALL.into_iter().find(|class| class.code() == code) {
        Some(class) => Some(class_words(class)),
        None => Some(foreign(code)),
    }
}

fn class_words(class: Class) -> String {
    let retry = match class {
        Class::Ok => "Nothing to retry.",
        class if class.retryable() => "A retry can help: Kubernetes may start the job again.",
        _ => "A retry does not help: the same job fails in the same way.",
    };
    let mut words = format!(
        "{} ({}): {}\n\nlook at: {}\nretry:   {retry}\n",
        class.code(),
        class,
        class.meaning(),
        look_at(class),
    );
    for remedy in remedies(class) {
        let _ = writeln!(words, "try:     {remedy}");
    }
    words
}

/// A code that no class has.
fn foreign(code: u8) -> String {
    match code {
        1..=79 | 100..=125 => format!(
            "{code}: the application's own exit code, passed on (or mpirun's).\n\n\
             look at: The output of the rank that the verdict names.\n\
             retry:   A retry does not help unless the application says so.\n"
        ),
        126 | 127 => format!(
            "{code}: a shell could not {} the program.\n\n\
             look at: The program's path and mode in the image.\nretry:   A retry does not help.\n",
            if code == 126 { "execute" } else { "find" },
        ),
        129..=192 => {
            let signal = i32::from(code) - 128;
            let name = nix::sys::signal::Signal::try_from(signal)
                .map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned());
            format!(
                "{code}: as a shell says it, a program ended by {name}.\n\n\
                 look at: Who sent {name}. muster launch ends with 129, 130, 141 or 143 when it is itself \
                 stopped by SIGHUP, Ctrl-C, a closed stdout or SIGTERM (terminated).\n\
                 retry:   By Kubeflow's convention a retry can help.\n"
            )
        }
        _ => format!("{code}: no class of muster's has this code.\n"),
    }
}

/// The whole table, for a terminal.
#[must_use]
pub fn table() -> String {
    let mut text = "code  class             retry  meaning\n".to_owned();
    for class in Class::ALL {
        let _ = writeln!(
            text,
            "{:>4}  {:<16}  {:<5}  {}",
            class.code(),
            class.name(),
            retry(class),
            class.meaning()
        );
    }
    text += "\n1-79 and 100-125 are the application's own, or mpirun's.\n";
    text
}

/// The same for the README.
#[must_use]
pub fn markdown() -> String {
    let mut text = "| code | class | retry | meaning |\n|---|---|---|---|\n".to_owned();
    for class in Class::ALL {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            class.code(),
            class.name(),
            retry(class),
            class.meaning()
        );
    }
    text
}

fn retry(class: Class) -> &'static str {
    match class {
        Class::Ok => "-",
        class if class.retryable() => "yes",
        _ => "no",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Between these lines the README holds what `markdown` gives.
    const MARKERS: [&str; 2] = ["<!-- exit codes -->\n", "<!-- end of exit codes -->"];

    #[test]
    fn the_readme_holds_the_table() {
        let readme = include_str!("../../../README.md");
        let between =
            readme.split_once(MARKERS[0]).and_then(|(_, rest)| rest.split_once(MARKERS[1]));
        let (table, _) = between.expect("README.md has lost the markers of the exit-code table");
        assert!(
            table.trim() == markdown().trim(),
            "README.md is stale: put the output of `muster explain --format markdown` between {} and {}",
            MARKERS[0].trim(),
            MARKERS[1],
        );
    }

    #[test]
    fn every_class_and_every_code_has_words() {
        for class in Class::ALL {
            assert_eq!(about(class.name()), about(&class.code().to_string()), "{class}");
            assert!(class == Class::Ok || !remedies(class).is_empty(), "{class}");
        }
        for code in 0..=255_u8 {
            assert!(about(&code.to_string()).is_some(), "{code}");
        }
        assert!(about("137").is_some_and(|words| words.contains("SIGKILL")));
        // The codes of a launcher that is stopped, 143 apart, which has a class.
        for (code, signal) in [("129", "SIGHUP"), ("130", "SIGINT"), ("141", "SIGPIPE")] {
            let words = about(code).unwrap();
            assert!(
                words.contains(&format!("Who sent {signal}. muster launch ends with")),
                "{words}"
            );
        }
        for unknown in ["", "256", "gpu", "-1"] {
            assert_eq!(about(unknown), None, "{unknown}");
        }
    }
}
