//! Figures of one run of one workload, and how several runs are summed up. No I/O.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// What one run measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Operations per second.
    pub(crate) rate: f64,
    /// Latency in microseconds, where the workload has one.
    pub(crate) latency: Option<Latency>,
    /// CPU of the server process per operation in microseconds; `None` when its process is not ours to see, or it used
    /// less than the kernel's clock resolves.
    pub(crate) cpu_us: Option<f64>,
    /// CPU of the generator in cores: above 0.5 it is part of the result.
    pub(crate) generator_cores: f64,
}

/// Quantiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Latency {
    /// From a histogram of nanoseconds; `None` when it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        })
    }
}

/// For latencies in nanoseconds up to two minutes, longer than any patience here; longer ones count as two minutes.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000_000, 3)
        .expect("the bounds and three digits are allowed")
}

/// Nanoseconds as microseconds. Latencies are far below 2^52 ns.
#[expect(clippy::cast_precision_loss, reason = "a latency is far below 2^52 ns")]
pub(crate) fn us(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}

impl Sample {
    pub(crate) fn json(&self) -> Value {
        json!({
            "rate": self.rate,
            "p50_us": self.latency.map(|latency| latency.p50),
            "p99_us": self.latency.map(|latency| latency.p99),
            "p999_us": self.latency.map(|latency| latency.p999),
            "server_cpu_us": self.cpu_us,
            "generator_cores": self.generator_cores,
        })
    }
}

/// Median with its range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` for no values at all. An even number has the mean of the middle two as its median.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }

    pub(crate) fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_histogram() {
        let mut histogram = histogram();
        histogram.saturating_record_n(50_000, 3);
        let p50 = Latency::of(&histogram).unwrap().p50;
        assert!((49.9..50.1).contains(&p50), "{p50}");
    }

    #[test]
    fn a_median_needs_no_order() {
        let spread = Spread::of([9.0, 1.0, 5.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (5.0, 1.0, 9.0));
        assert_eq!(Spread::of([1.0, 2.0, 4.0, 8.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([]), None);
    }
}
