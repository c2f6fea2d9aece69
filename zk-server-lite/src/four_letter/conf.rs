//! `conf`, `envi`, `dirs`: what the server was told and where it runs.

use std::fmt::Write;
use std::path::Path;

use super::VERSION;
use crate::config::ServerConfig;
use crate::node::core::Shared;

pub(super) fn conf(shared: &Shared) -> String {
    let config = &shared.config;
    let (data, log) = directories(config);
    let port = shared.metrics.port().map_or(-1, i32::from);
    format!(
        "clientPort={port}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\ntickTime={}\n\
         maxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\nserverId=0\n",
        data.as_deref()
            .map(Path::to_string_lossy)
            .unwrap_or_default(),
        data.as_deref().map_or(0, size),
        log.as_deref()
            .map(Path::to_string_lossy)
            .unwrap_or_default(),
        log.as_deref().map_or(0, size),
        config.tick_ms,
        config.max_client_cnxns,
        config.min_timeout_ms(),
        config.max_timeout_ms(),
        config.backlog.map_or(-1, i64::from),
    )
}

pub(super) fn dirs(config: &ServerConfig) -> String {
    let (data, log) = directories(config);
    format!(
        "datadir_size: {}\nlogdir_size: {}\n",
        data.as_deref().map_or(0, size),
        log.as_deref().map_or(0, size)
    )
}

/// The snapshot and log directories, with the folder of the format's version.
fn directories(config: &ServerConfig) -> (Option<std::path::PathBuf>, Option<std::path::PathBuf>) {
    let data = config.data_dir.as_ref();
    let log = config.data_log_dir.as_ref().or(data);
    (
        data.map(|dir| dir.join("version-2")),
        log.map(|dir| dir.join("version-2")),
    )
}

/// Bytes of the files in a directory; a file that goes away meanwhile counts nothing.
fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(|data| data.is_file())
        .map(|data| data.len())
        .sum()
}

/// What Java's system properties tell, as far as it means something here.
pub(super) fn envi() -> String {
    let mut text = format!("Environment:\nzookeeper.version={VERSION}\n");
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    let env = |name: &str| std::env::var(name).unwrap_or_else(|_| "<NA>".to_owned());
    let host = read_line("/proc/sys/kernel/hostname").unwrap_or_else(|| "<NA>".to_owned());
    line("host.name", &host);
    line("java.version", "<NA>");
    line("java.vendor", "<NA>");
    line("java.home", "<NA>");
    line("java.class.path", "<NA>");
    line("java.library.path", "<NA>");
    line("java.io.tmpdir", &std::env::temp_dir().to_string_lossy());
    line("java.compiler", "<NA>");
    line(
        "os.name",
        if cfg!(target_os = "linux") {
            "Linux"
        } else {
            std::env::consts::OS
        },
    );
    line(
        "os.arch",
        if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            std::env::consts::ARCH
        },
    );
    line(
        "os.version",
        &read_line("/proc/sys/kernel/osrelease").unwrap_or_else(|| "<NA>".to_owned()),
    );
    line("user.name", &env("USER"));
    line("user.home", &env("HOME"));
    let dir = std::env::current_dir()
        .map(|dir| dir.to_string_lossy().into_owned())
        .unwrap_or_default();
    line("user.dir", &dir);
    text
}

fn read_line(path: &str) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim_end().to_owned())
}

/// `Thu Nov 26 23:09:00 UTC 2026`, as Java's `Date` prints, in UTC.
pub(super) fn java_date(wall_ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = wall_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of year 0, in eras of 400 years: the civil-from-days method.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 2
    } else {
        shifted_month - 10
    };
    let year = year_of_era + era * 400 + i64::from(month < 2);
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[days.rem_euclid(7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::java_date;

    #[test]
    fn dates_are_javas() {
        assert_eq!(java_date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(java_date(951_782_400_000), "Tue Feb 29 00:00:00 UTC 2000");
        assert_eq!(java_date(1_795_734_540_000), "Thu Nov 26 23:09:00 UTC 2026");
    }
}
