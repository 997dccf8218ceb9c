//! Flow control of a command's output between two musters, by what its reader has consumed.
//!
//! As a client russh grants a server new window for whatever arrives, read or not (docs/adr/0001). So
//! the client says what it has consumed, and the worker sends no more than [`CREDIT`] beyond that.
//!
//! Must not hold back the connection, or anything but the one command's output.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Semaphore;

/// How the client says it: as a variable, whose requests no window holds back. Its value is the number of bytes
/// since it was said before; 0 before the command is the offer to say it. Other servers refuse it.
pub const CONSUMED: &str = "MUSTER_CONSUMED";

/// Bytes of output that may be under way or wait for their reader.
pub const CREDIT: usize = 4 * 1024 * 1024;

/// Bytes after which the client speaks.
const STEP: usize = CREDIT / 8;

/// The worker's side: what it may still send of one command's output.
#[derive(Debug)]
pub struct Credit {
    free: Semaphore,
    /// Bytes that were sent and not consumed, as far as is known.
    under_way: Mutex<usize>,
}

impl Default for Credit {
    fn default() -> Self {
        Self { free: Semaphore::new(CREDIT), under_way: Mutex::new(0) }
    }
}

impl Credit {
    /// Waits until so many bytes may be sent; a message has less than [`CREDIT`].
    pub async fn take(&self, bytes: usize) {
        let permits = u32::try_from(bytes.min(CREDIT)).unwrap_or(u32::MAX);
        // It is never closed.
        if let Ok(permit) = self.free.acquire_many(permits).await {
            *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) += permit.num_permits();
            permit.forget();
        }
    }

    /// Takes the client's word, in the form of [`CONSUMED`]; whether it was one.
    pub fn consumed(&self, value: &str) -> bool {
        let Ok(bytes) = value.parse::<usize>() else { return false };
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let known = bytes.min(*under_way);
        *under_way -= known;
        self.free.add_permits(known);
        true
    }
}

/// The client's side: what it has consumed and not said yet.
#[derive(Debug, Default)]
pub struct Unsaid(usize);

impl Unsaid {
    /// Counts bytes; the value of [`CONSUMED`], when it is time to say it.
    pub fn add(&mut self, bytes: usize) -> Option<String> {
        self.0 += bytes;
        (self.0 >= STEP).then(|| std::mem::take(&mut self.0).to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_is_sent_than_was_consumed_and_the_credit() {
        let (credit, mut unsaid) = (Credit::default(), Unsaid::default());
        let wait = Duration::from_secs(1);
        timeout(wait, credit.take(CREDIT)).await.unwrap();
        assert!(timeout(wait, credit.take(1)).await.is_err());
        assert_eq!(unsaid.add(STEP - 1), None);
        let said = unsaid.add(1).unwrap();
        assert!(credit.consumed(&said));
        timeout(wait, credit.take(STEP)).await.unwrap();
        assert!(timeout(wait, credit.take(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_claims_more_gets_no_more() {
        let credit = Credit::default();
        assert!(credit.consumed("0") && credit.consumed(&usize::MAX.to_string()));
        assert!(!credit.consumed("much"));
        credit.take(CREDIT).await;
        assert!(timeout(Duration::from_secs(1), credit.take(1)).await.is_err());
    }
}
