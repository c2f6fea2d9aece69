//! The keys of `zoo.cfg`: what each means here, which are known and have no effect, and what refuses a start.
//!
//! What Apache ZooKeeper takes only as a JVM property `zookeeper.X` is taken here as `X`, with or without the prefix. A
//! feature that is not built is warned about by name; only an ensemble is refused, since serving alone in its place would
//! split it. A malformed value is refused with its line: guessing would be worse.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::no_effect::feature;
use super::properties::{self, Property};
use super::value::{Value, kibibytes, resolve, whitelist};
use super::{ServerConfig, SnapshotCompression};

pub use super::complaint::{ConfigError, ConfigWarning};

/// Reads a `zoo.cfg` into a configuration.
///
/// ```
/// let text = "tickTime=2000\ndataDir=/var/lib/zookeeper\nclientPort=2181\nadmin.serverPort=8080\n";
/// let (config, warnings) = zk_server_lite::config::zoo_cfg::parse(text)?;
/// assert_eq!(config.max_timeout_ms(), 40_000);
/// assert_eq!(warnings[0].to_string(), "line 4: admin.serverPort has no effect: this server has no admin server");
/// # Ok::<(), zk_server_lite::config::zoo_cfg::ConfigError>(())
/// ```
///
/// # Errors
/// When a value is malformed, a required key is missing, or the file describes an ensemble.
pub fn parse(text: &str) -> Result<(ServerConfig, Vec<ConfigWarning>), ConfigError> {
    let mut draft = Draft::default();
    let mut warnings = Vec::new();
    for property in properties::parse(text)? {
        draft.take(&property, &mut warnings)?;
    }
    Ok((draft.finish()?, warnings))
}

/// What was read so far.
#[derive(Debug, Default)]
struct Draft {
    config: ServerConfig,
    port: Option<u16>,
    address: Option<IpAddr>,
}

impl Draft {
    fn take(
        &mut self,
        property: &Property,
        warnings: &mut Vec<ConfigWarning>,
    ) -> Result<(), ConfigError> {
        let value = Value::new(property);
        let config = &mut self.config;
        let key = property
            .key
            .strip_prefix("zookeeper.")
            .unwrap_or(&property.key);
        match key {
            "dataDir" => config.data_dir = Some(value.path()?),
            "dataLogDir" => config.data_log_dir = Some(value.path()?),
            "clientPort" => self.port = Some(value.number("a port from 0 to 65535")?),
            "clientPortAddress" => self.address = Some(resolve(&value)?),
            "clientPortListenBacklog" => {
                let backlog: i32 = value.number("a number, or -1")?;
                config.backlog = u32::try_from(backlog).ok();
            }
            "tickTime" => {
                config.tick_ms = value.number("milliseconds, at least 1")?;
                if config.tick_ms == 0 {
                    return Err(value.refuse("milliseconds, at least 1"));
                }
            }
            "minSessionTimeout" => config.min_session_timeout = value.timeout()?,
            "maxSessionTimeout" => config.max_session_timeout = value.timeout()?,
            "maxClientCnxns" => config.max_client_cnxns = value.count()?,
            "maxCnxns" => config.max_cnxns = value.count()?,
            "nio.sessionlessCnxnTimeout" => config.sessionless_timeout = value.millis()?,
            "jute.maxbuffer" => {
                config.jute_max_buffer = value.number("bytes")?;
                if i32::try_from(config.jute_max_buffer).is_err() {
                    return Err(value.refuse("bytes, below 2 GiB"));
                }
            }
            "clientTcpKeepAlive" => config.tcp_keep_alive = value.truth()?,
            "4lw.commands.whitelist" => config.four_letter_words = whitelist(&property.value),
            "snapCount" => config.snap_count = value.count()?,
            "snapSizeLimitInKb" => config.snap_size_limit_kb = kibibytes(&value)?,
            "preAllocSize" => config.pre_alloc_kb = kibibytes(&value)?,
            "txnLogSizeLimitInKb" => config.txn_log_size_limit_kb = kibibytes(&value)?,
            "forceSync" => config.force_sync = value.truth()?,
            "snapshot.trust.empty" => config.trust_empty = value.truth()?,
            "snapshot.compression.method" => {
                config.snapshot_compression = match property.value.trim() {
                    "" => SnapshotCompression::None,
                    "gz" => SnapshotCompression::Gzip,
                    "snappy" => SnapshotCompression::Snappy,
                    _ => return Err(value.refuse("gz, snappy or nothing")),
                }
            }
            "autopurge.snapRetainCount" => {
                config.purge_retain = value.or_zero::<usize>("a number")?.max(3)
            }
            "autopurge.purgeInterval" => {
                config.purge_interval_hours = value.or_zero("hours, 0 for never")?
            }
            "extendedTypesEnabled" => config.extended_types = value.truth()?,
            "enforceQuota" => config.enforce_quota = value.truth()?,
            "skipACL" => config.skip_acl = value.truth()?,
            "DigestAuthenticationProvider.superDigest" => {
                config.super_digest =
                    Some(property.value.trim().to_owned()).filter(|digest| !digest.is_empty());
            }
            "DigestAuthenticationProvider.enabled" => config.digest_auth = value.truth()?,
            "globalOutstandingLimit" => config.global_outstanding_limit = value.count()?,
            "zkServerLite.maxUnsentBytes" => config.max_unsent = value.number("bytes")?,
            "znode.container.checkIntervalMs" => {
                config.container_check_interval = value.millis()?;
                if config.container_check_interval.is_zero() {
                    return Err(value.refuse("milliseconds, at least 1"));
                }
            }
            "znode.container.maxPerMinute" => config.container_max_per_minute = value.count()?,
            "znode.container.maxNeverUsedIntervalMs" => {
                config.container_max_never_used = value.millis()?
            }
            "dynamicConfigFile" => {
                return Err(ConfigError::Ensemble {
                    line: property.line,
                    key: property.key.clone(),
                });
            }
            _ if key.starts_with("server.") => {
                return Err(ConfigError::Ensemble {
                    line: property.line,
                    key: property.key.clone(),
                });
            }
            _ => warnings.push(match feature(key) {
                Some(feature) => ConfigWarning::NoEffect {
                    line: property.line,
                    key: property.key.clone(),
                    feature,
                },
                None => ConfigWarning::Unknown {
                    line: property.line,
                    key: property.key.clone(),
                },
            }),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ServerConfig, ConfigError> {
        if self.config.data_dir.is_none() {
            return Err(ConfigError::Missing("dataDir"));
        }
        let config = &mut self.config;
        if config.min_timeout_ms() > config.max_timeout_ms() {
            return Err(ConfigError::Contradiction(format!(
                "minSessionTimeout {} is above maxSessionTimeout {}",
                config.min_timeout_ms(),
                config.max_timeout_ms()
            )));
        }
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        match (self.port, self.address) {
            (Some(port), address) => {
                config.client_address = Some(SocketAddr::new(address.unwrap_or(any), port))
            }
            (None, Some(_)) => {
                return Err(ConfigError::Contradiction(
                    "clientPortAddress is set but clientPort is not".to_owned(),
                ));
            }
            // Without TLS the plain port is the only way in.
            (None, None) => return Err(ConfigError::Missing("clientPort")),
        }
        Ok(self.config)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BASE: &str = "tickTime=2000\ndataDir=/data\nclientPort=2181\n";

    fn with(lines: &str) -> Result<(ServerConfig, Vec<ConfigWarning>), ConfigError> {
        parse(&format!("{BASE}{lines}"))
    }

    #[test]
    fn debians_own_file_is_taken_without_a_warning_that_matters() {
        let (config, warnings) =
            with("initLimit=10\nsyncLimit=5\nmaxClientCnxns=60\nautopurge.snapRetainCount=1\n")
                .unwrap();
        assert_eq!(config.tick_ms, 2000);
        assert_eq!(config.client_address, Some("0.0.0.0:2181".parse().unwrap()));
        assert_eq!(
            (config.min_timeout_ms(), config.max_timeout_ms()),
            (4000, 40_000)
        );
        assert_eq!(config.purge_retain, 3, "never fewer than three");
        assert_eq!(
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "line 4: initLimit has no effect: this server has no ensemble",
                "line 5: syncLimit has no effect: this server has no ensemble"
            ]
        );
    }

    #[test]
    fn properties_of_the_jvm_are_keys_with_and_without_their_prefix() {
        for prefix in ["", "zookeeper."] {
            let lines = format!(
                "{prefix}znode.container.checkIntervalMs=50\n{prefix}DigestAuthenticationProvider.superDigest=super:x=\n\
                 {prefix}skipACL=yes\n{prefix}forceSync=no\n{prefix}jute.maxbuffer=4096\n{prefix}4lw.commands.whitelist=ruok, mntr\n"
            );
            let (config, warnings) = with(&lines).unwrap();
            assert_eq!(warnings, []);
            assert_eq!(config.container_check_interval, Duration::from_millis(50));
            assert_eq!(config.super_digest.as_deref(), Some("super:x="));
            assert!(config.skip_acl && !config.force_sync);
            assert_eq!(config.jute_max_buffer, 4096);
            assert!(
                config.four_letter_words.allows("mntr") && !config.four_letter_words.allows("srvr")
            );
        }
    }

    #[test]
    fn what_is_not_there_is_named_and_what_nobody_knows_too() {
        let (_, warnings) = with("secureClientPort=2281\nssl.keyStore.location=/x\nauthProvider.1=y\nadmin.enableServer=false\nfoo=1\n").unwrap();
        let texts: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert!(texts[0].ends_with("no TLS") && texts[1].ends_with("no TLS"));
        assert!(texts[2].contains("SASL") && texts[3].contains("admin server"));
        assert_eq!(texts[4], "line 8: foo is not a known key");
    }

    #[test]
    fn malformed_values_are_refused_with_their_line() {
        for (line, expected) in [
            (
                "maxClientCnxns=many",
                "line 4: maxClientCnxns=many: expected a number, not negative",
            ),
            (
                "tickTime=0",
                "line 4: tickTime=0: expected milliseconds, at least 1",
            ),
            (
                "clientPort=70000",
                "line 4: clientPort=70000: expected a port from 0 to 65535",
            ),
            (
                "forceSync=perhaps",
                "line 4: forceSync=perhaps: expected true or false",
            ),
            (
                "snapshot.compression.method=zip",
                "line 4: snapshot.compression.method=zip: expected gz, snappy or nothing",
            ),
            (
                "minSessionTimeout=-2",
                "line 4: minSessionTimeout=-2: expected milliseconds, or -1",
            ),
        ] {
            assert_eq!(with(line).unwrap_err().to_string(), expected);
        }
        assert!(matches!(
            with("server.1=a:2888:3888"),
            Err(ConfigError::Ensemble { line: 4, .. })
        ));
        assert_eq!(
            parse("tickTime=1\nclientPort=1").unwrap_err(),
            ConfigError::Missing("dataDir")
        );
        // Apache's default, where the key is left out.
        let (config, _) = parse("dataDir=/d\nclientPort=1").unwrap();
        assert_eq!(config.tick_ms, 3000);
        assert!(with("minSessionTimeout=50000").is_err());
    }

    #[test]
    fn numbers_below_zero_are_zero_where_java_takes_them_so() {
        let (config, _) =
            with("autopurge.purgeInterval=-1\nautopurge.snapRetainCount=-1\npreAllocSize=-1")
                .unwrap();
        assert_eq!(config.purge_interval_hours, 0);
        assert_eq!(config.purge_retain, 3);
        assert_eq!(config.pre_alloc_kb, 0);
    }
}
