use super::*;

const LEAST: &str = r#"
    node = "node-01"
    data_directory = "/var/lib/novacron"
    coordinators = ["10.0.0.1:7400"]
    migration_advertise = "10.0.0.11:7410"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("agent.toml"))
}

fn refusal(change: &str) -> String {
    parse(&format!("{LEAST}\n{change}")).unwrap_err().to_string()
}

#[test]
fn defaults_fill_what_is_not_said() {
    let config = parse(LEAST).unwrap();
    let directories = config.directories();
    assert_eq!(directories.memory, Path::new("/dev/shm/novacron-node-01"));
    assert_eq!(directories.images, Path::new("/var/lib/novacron/images"));
    assert_eq!(config.accel, AcceleratorChoice::Auto);
    assert_eq!(config.memory, Amount::Auto);
    assert_eq!(config.migration_advertise(), "10.0.0.11:7410");
    assert_eq!(config.log, LogSettings::default());
}

#[test]
fn the_sample_is_read() {
    let sample = include_str!("../../../deploy/agent.toml");
    let config = parse(sample).unwrap();
    assert_eq!(config.node.as_str(), "node-01");
    assert_eq!(config.labels["zone"], "a");
    // What is commented out in it is right as well.
    let uncommented: String = sample
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.contains(" = ") || setting.starts_with('[') => {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let config = parse(&uncommented).unwrap();
    assert_eq!(config.memory.or_auto(|| 0), 28 << 30);
    assert_eq!(config.cpus.or_auto(|| 0), 16);
    assert_eq!(config.migration, parse(LEAST).unwrap().migration, "the defaults");
}

#[test]
fn a_bad_value_is_named_with_what_would_be_right() {
    for (change, expected) in [
        ("accel = \"xen\"", &["accel", "auto", "kvm", "tcg"][..]),
        ("memory = \"lots\"", &["memory", "`lots` is not a size"]),
        ("cpus = -1", &["cpus", "negative"]),
        ("cpus = \"4GiB\"", &["cpus", "1 to 65536"]),
        ("disk = true", &["disk", "\"auto\", a number, or a size"]),
        ("colour = \"red\"", &["colour", "unknown field"]),
        ("memory_directory = \"shm\"", &["memory_directory", "absolute"]),
        ("[labels]\n\"\" = \"x\"", &["labels", "bytes are needed"]),
        ("[log]\nformat = \"xml\"", &["format", "text", "json"]),
        ("[migration]\nchannels = 0", &["migration.channels", "1 to 15"]),
    ] {
        let text = refusal(change);
        for word in expected {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
    }
}

#[test]
fn addresses_and_names_are_checked() {
    let with = |from: &str, to: &str| parse(&LEAST.replace(from, to)).unwrap_err().to_string();
    assert!(with("\"10.0.0.1:7400\"", "").contains("coordinators: at least one"));
    assert!(with("10.0.0.1:7400", "10.0.0.1").contains("is not `host:port`"));
    assert!(with("10.0.0.11:7410", ":7410").contains("migration_advertise"));
    assert!(with("node-01", "Node 1").contains("is not a valid name"));
    let unsaid = with("migration_advertise = \"10.0.0.11:7410\"", "");
    assert!(
        unsaid.contains("migration_advertise: other agents cannot dial 0.0.0.0:7410"),
        "{unsaid}"
    );
    let long = with("/var/lib/novacron", &format!("/{}", "d".repeat(60)));
    assert!(long.contains("data_directory") && long.contains("too long"), "{long}");
    assert!(with("node = \"node-01\"", "").contains("node"));
}
