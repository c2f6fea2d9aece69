//! The smallest part of a history that still shows a difference, by leaving things out. Knows no server.
//!
//! Delta debugging: ever smaller chunks of steps are left out, then single requests of a pipeline; whatever still differs
//! without them is kept so. Each try costs two fresh servers, so there is a limit in time; what is found by then counts.

use std::time::{Duration, Instant};

use super::step::Step;

/// Shrinks `steps`, for which `differs` holds.
pub fn shrink(
    steps: Vec<Step>,
    limit: Duration,
    mut differs: impl FnMut(&[Step]) -> bool,
) -> Vec<Step> {
    let deadline = Instant::now() + limit;
    let mut best = steps;
    let mut chunk = best.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        let mut smaller = false;
        while at < best.len() {
            if Instant::now() >= deadline {
                return best;
            }
            let end = (at + chunk).min(best.len());
            let candidate = [&best[..at], &best[end..]].concat();
            if !candidate.is_empty() && differs(&candidate) {
                best = candidate;
                smaller = true;
            } else {
                at = end;
            }
        }
        if !(smaller && chunk == 1) {
            chunk /= 2;
        }
    }
    shrink_pipelines(best, deadline, differs)
}

fn shrink_pipelines(
    mut best: Vec<Step>,
    deadline: Instant,
    mut differs: impl FnMut(&[Step]) -> bool,
) -> Vec<Step> {
    for at in 0..best.len() {
        let mut index = 0;
        while let Step::Requests { ops, .. } = &best[at] {
            if ops.len() < 2 || index >= ops.len() || Instant::now() >= deadline {
                break;
            }
            let mut candidate = best.clone();
            if let Step::Requests { ops, .. } = &mut candidate[at] {
                ops.remove(index);
            }
            if differs(&candidate) {
                best = candidate;
            } else {
                index += 1;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let steps: Vec<_> = (0..100).map(|slot| Step::HangUp { slot }).collect();
        let needed = [3, 50, 51, 99];
        let found = shrink(steps, Duration::from_secs(60), |steps| {
            needed
                .iter()
                .all(|needed| steps.iter().any(|step| step.slot() == Some(*needed)))
        });
        assert_eq!(found, needed.map(|slot| Step::HangUp { slot }));
    }
}
