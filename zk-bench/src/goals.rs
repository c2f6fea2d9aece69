//! What we want to reach, as data: each goal names what is measured, and two bounds. "Must" is the least that lets one
//! claim to beat Apache ZooKeeper in that respect, "aim" what we are out for. No I/O, no printing.

use crate::server::Forcing;

/// What a bound is set for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Measure {
    /// Our rate divided by Apache ZooKeeper's.
    RateToApache,
    /// Apache ZooKeeper's median latency divided by ours.
    LatencyOfApache,
    /// Our rate divided by the null server's.
    RateToNull,
    /// Our median latency divided by the null server's.
    LatencyToNull,
    /// Our median latency less the null server's and less one forced write to a zero-filled region, microseconds.
    AboveFloorUs,
    /// CPU of our server per operation, microseconds.
    CpuUs,
    /// Our 99.9 % latency divided by the median.
    Tail,
}

impl Measure {
    /// Whether more is better.
    pub(crate) fn rises(self) -> bool {
        matches!(
            self,
            Self::RateToApache | Self::LatencyOfApache | Self::RateToNull
        )
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::RateToApache => "rate / Apache's",
            Self::LatencyOfApache => "Apache's p50 / ours",
            Self::RateToNull => "rate / null server's",
            Self::LatencyToNull => "p50 / null server's",
            Self::AboveFloorUs => "p50 - null - zeroed sync, us",
            Self::CpuUs => "server CPU, us/op",
            Self::Tail => "p99.9 / p50",
        }
    }
}

/// One line of the goals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    /// A workload's name.
    pub(crate) workload: &'static str,
    pub(crate) forcing: Forcing,
    pub(crate) measure: Measure,
    pub(crate) must: Option<f64>,
    pub(crate) aim: Option<f64>,
}

const fn goal(
    workload: &'static str,
    forcing: Forcing,
    measure: Measure,
    must: Option<f64>,
    aim: Option<f64>,
) -> Goal {
    Goal {
        workload,
        forcing,
        measure,
        must,
        aim,
    }
}

/// The goals for a standalone server under the workloads of `compare`.
pub(crate) const GOALS: [Goal; 20] = [
    goal(
        "get-1x1",
        Forcing::On,
        Measure::LatencyToNull,
        Some(1.4),
        Some(1.1),
    ),
    goal(
        "get-4x64",
        Forcing::On,
        Measure::RateToApache,
        Some(8.0),
        Some(15.0),
    ),
    goal(
        "get-4x64",
        Forcing::On,
        Measure::CpuUs,
        Some(3.5),
        Some(1.2),
    ),
    goal(
        "mixed-4x64",
        Forcing::On,
        Measure::RateToApache,
        Some(6.0),
        Some(12.0),
    ),
    goal(
        "set-4x64",
        Forcing::Off,
        Measure::RateToApache,
        Some(5.0),
        Some(10.0),
    ),
    goal(
        "set-4x64",
        Forcing::On,
        Measure::RateToApache,
        Some(5.0),
        Some(10.0),
    ),
    goal("set-4x64", Forcing::On, Measure::CpuUs, None, Some(2.5)),
    goal(
        "create-4x64",
        Forcing::On,
        Measure::RateToApache,
        Some(5.0),
        Some(10.0),
    ),
    goal("create-4x64", Forcing::On, Measure::CpuUs, None, Some(3.0)),
    goal(
        "multi-4x16",
        Forcing::On,
        Measure::RateToApache,
        Some(5.0),
        Some(10.0),
    ),
    goal(
        "set-1x1",
        Forcing::Off,
        Measure::LatencyToNull,
        Some(1.5),
        Some(1.15),
    ),
    goal(
        "set-1x1",
        Forcing::On,
        Measure::AboveFloorUs,
        Some(60.0),
        Some(20.0),
    ),
    goal(
        "set-4x64",
        Forcing::Off,
        Measure::Tail,
        Some(5.0),
        Some(3.0),
    ),
    goal(
        "fanout-1000",
        Forcing::On,
        Measure::LatencyOfApache,
        Some(2.0),
        Some(3.0),
    ),
    goal(
        "sessions-8",
        Forcing::On,
        Measure::RateToApache,
        Some(1.7),
        None,
    ),
    goal(
        "sessions-8",
        Forcing::On,
        Measure::RateToNull,
        None,
        Some(0.8),
    ),
    goal("sessions-8", Forcing::On, Measure::CpuUs, None, Some(55.0)),
    goal(
        "lock-8",
        Forcing::On,
        Measure::RateToApache,
        Some(1.5),
        Some(2.0),
    ),
    goal(
        "lock-8",
        Forcing::Off,
        Measure::RateToApache,
        Some(1.4),
        Some(1.8),
    ),
    goal(
        "ephemerals-200x10",
        Forcing::On,
        Measure::RateToApache,
        Some(1.0),
        None,
    ),
];

/// How a figure stands to its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Aim,
    Must,
    Short,
}

impl Verdict {
    /// Judges a value by two bounds, either of which may be absent: with no "must", whatever misses the aim still passes.
    pub(crate) fn of(value: f64, rises: bool, must: Option<f64>, aim: Option<f64>) -> Self {
        let reaches = |bound: f64| {
            if rises {
                value >= bound
            } else {
                value <= bound
            }
        };
        if aim.is_some_and(reaches) {
            Self::Aim
        } else if must.is_none_or(reaches) {
            Self::Must
        } else {
            Self::Short
        }
    }

    pub(crate) fn text(self, aim: bool) -> &'static str {
        match self {
            Self::Aim => "aim",
            Self::Must if aim => "must, not aim",
            Self::Must => "must",
            Self::Short => "SHORT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;

    #[test]
    fn every_goal_is_about_a_known_workload() {
        for goal in GOALS {
            assert!(workload::named(goal.workload).is_some(), "{goal:?}");
            assert!(goal.must.is_some() || goal.aim.is_some(), "{goal:?}");
        }
    }

    #[test]
    fn verdicts_know_which_way_is_better() {
        assert_eq!(Verdict::of(9.0, true, Some(8.0), Some(15.0)), Verdict::Must);
        assert_eq!(Verdict::of(1.2, false, Some(1.4), Some(1.1)), Verdict::Must);
        assert_eq!(Verdict::of(1.0, false, Some(1.4), Some(1.1)), Verdict::Aim);
        assert_eq!(
            Verdict::of(2.0, false, Some(1.4), Some(1.1)),
            Verdict::Short
        );
    }
}
