//! All hosts and where each is, asked once: what `muster hosts` shows.
//!
//! Must not wait for hosts that are not there yet: that is readiness.

use std::net::IpAddr;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::HostSpec;
use super::lookup::{Lookup, LookupError};

/// A host and its addresses, or why it has none now.
#[derive(Debug, Clone)]
pub struct Located {
    /// As it was asked for.
    pub host: HostSpec,
    /// At least one, or the reason.
    pub addresses: Result<Vec<IpAddr>, LookupError>,
}

/// Asks for all hosts at once and keeps their order. How many questions are under way at a time is
/// the resolver's to bound.
pub async fn locate(hosts: Vec<HostSpec>, lookup: &Arc<dyn Lookup>) -> Vec<Located> {
    let mut asking = JoinSet::new();
    for (index, host) in hosts.into_iter().enumerate() {
        let lookup = Arc::clone(lookup);
        asking.spawn(async move {
            let addresses = lookup.lookup(&host.name).await;
            (index, Located { host, addresses })
        });
    }
    let mut located = Vec::with_capacity(asking.len());
    while let Some(answer) = asking.join_next().await {
        match answer.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(answer) => located.push(answer),
            Err(Ok(panic)) => resume_unwind(panic),
            // Cancelled: the runtime is going down, and this future with it.
            Err(Err(_)) => {}
        }
    }
    located.sort_by_key(|(index, _)| *index);
    located.into_iter().map(|(_, located)| located).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use super::locate;
    use crate::discovery::lookup::{Boxed, Lookup, LookupError};
    use crate::discovery::{HostSpec, hostfile};
    use crate::ids::HostName;

    /// Answers the later the earlier the host, and not at all for `gone`.
    struct Slow;

    impl Lookup for Slow {
        fn lookup<'a>(&'a self, name: &'a HostName) -> Boxed<'a, Result<Vec<IpAddr>, LookupError>> {
            Box::pin(async move {
                let Some(index) = name.as_str().strip_prefix("w-") else {
                    let asked = vec![format!("{name}.")];
                    return Err(LookupError::NoSuchName { asked, unanswered: Vec::new() });
                };
                let index: u8 = index.parse().unwrap();
                tokio::time::sleep(Duration::from_secs(u64::from(10 - index))).await;
                Ok(vec![IpAddr::from([10, 0, 0, index])])
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn together_and_in_order() {
        let hosts: Vec<HostSpec> = hostfile::parse_list("w-0,gone,w-2,w-1").unwrap();
        let lookup: Arc<dyn Lookup> = Arc::new(Slow);
        let start = tokio::time::Instant::now();
        let located = locate(hosts, &lookup).await;
        assert_eq!(start.elapsed().as_secs(), 10, "the slowest, not the sum");
        let names: Vec<&str> = located.iter().map(|found| found.host.name.as_str()).collect();
        assert_eq!(names, ["w-0", "gone", "w-2", "w-1"]);
        assert!(located[1].addresses.is_err() && located[2].addresses.is_ok());
    }
}
