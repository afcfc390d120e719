//! How long a caller still waits, and calls to the store within it (V-44).

use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

/// A request without a deadline is answered within this.
const USUAL: Duration = Duration::from_secs(10);
/// No request waits longer, whatever its caller allows: a client's longest wait (FL-09) and what a gateway adds.
const LONGEST: Duration = Duration::from_secs(115);
/// One call to the store takes no longer, however long a person may take to answer.
const CALL: Duration = Duration::from_secs(10);
/// Kept back to answer.
const MARGIN: Duration = Duration::from_millis(50);

/// Until when the answer must be there.
#[derive(Clone, Copy)]
pub struct Budget {
    until: Instant,
}

impl Budget {
    /// The caller's deadline, less what the answer takes.
    pub fn of<T>(request: &Request<T>) -> Self {
        let header = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let left = header.and_then(grpc_timeout).unwrap_or(USUAL).min(LONGEST);
        Self { until: Instant::now() + left.saturating_sub(MARGIN) }
    }

    /// For one call to the store that no caller waits for.
    pub fn usual() -> Self {
        Self::lasting(USUAL)
    }

    /// Of our own making: work that nobody waits for.
    pub fn lasting(left: Duration) -> Self {
        Self { until: Instant::now() + left.min(LONGEST) }
    }

    pub fn until(self) -> Instant {
        self.until
    }

    pub fn left(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// The same, with `kept` back for what comes after.
    pub fn less(self, kept: Duration) -> Self {
        let now = Instant::now();
        Self { until: self.until.checked_sub(kept).map_or(now, |until| until.max(now)) }
    }

    /// Asks the store. What goes wrong is one thing to the caller: unavailable, which is never an Allow (V-40).
    pub async fn ask<M, R, F>(
        self,
        what: &'static str,
        message: impl tonic::IntoRequest<M>,
        call: impl FnOnce(Request<M>) -> F,
    ) -> Result<R, Status>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let left = self.left().min(CALL);
        if left.is_zero() {
            return Err(store_unavailable(what, "no time is left"));
        }
        let request = service_kit::grpc::with_deadline(message, left);
        match tokio::time::timeout(left, call(request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            // The one refusal that a caller can do something about.
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => Err(status),
            // It is there and has too much to do, which is no outage (V-41).
            Ok(Err(status)) if status.code() == Code::ResourceExhausted => {
                tracing::warn!(operation = what, "the store has too much to do");
                Err(Status::resource_exhausted(domain::Reason::Overloaded.code()))
            }
            Ok(Err(status)) => Err(store_unavailable(what, &format!("{}: {}", status.code(), status.message()))),
            Err(_) => Err(store_unavailable(what, "no answer in time")),
        }
    }
}

/// The store said something that this part does not understand. Not an answer (V-75).
pub fn not_understood(what: &'static str) -> Status {
    store_unavailable(what, "the answer makes no sense")
}

fn store_unavailable(operation: &'static str, error: &str) -> Status {
    tracing::warn!(operation, error, "the store did not answer");
    Status::unavailable(domain::Reason::StoreUnavailable.code())
}

/// The header of the gRPC protocol: up to 8 digits and a unit.
fn grpc_timeout(value: &str) -> Option<Duration> {
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What the store answered as a number, as the enum it stands for; unknown numbers are no answer.
pub fn known<E: TryFrom<i32>>(value: i32, what: &'static str) -> Result<E, Status> {
    E::try_from(value).map_err(|_| not_understood(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_a_caller_is_read_and_never_longer_than_ours() {
        // V-44
        for (header, left) in [
            ("250m", Some(Duration::from_millis(250))),
            ("3S", Some(Duration::from_secs(3))),
            ("1500000u", Some(Duration::from_millis(1500))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("1H", Some(Duration::from_secs(3600))),
            ("", None),
            ("S", None),
            ("-3S", None),
            ("100000000S", None),
            ("3 S", None),
            ("3é", None),
        ] {
            assert_eq!(grpc_timeout(header), left, "{header:?}");
        }
        let mut request = Request::new(());
        request.set_timeout(Duration::from_secs(3600));
        let left = Budget::of(&request).left();
        assert!(left <= LONGEST && left > LONGEST - Duration::from_secs(5), "a person may take almost two minutes");
        assert!(Budget::of(&Request::new(())).left() <= USUAL);
        assert!(Budget::of(&request).less(LONGEST * 2).left().is_zero());
    }
}
