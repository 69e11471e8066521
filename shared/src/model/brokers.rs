//! The bootstrap list of a Kafka target: `host[:9092],host…`, an IPv6 address in brackets.

use url::Host;

/// Port of a broker that names none.
const PORT: u16 = 9092;

/// Reads a list: host (an IPv6 address without brackets) and port of each broker.
///
/// # Errors
/// A sentence without its subject that quotes nothing.
pub fn parse(list: &str) -> Result<Vec<(String, u16)>, String> {
    let brokers: Option<Vec<_>> = list.split(',').map(|broker| broker_of(broker.trim())).collect();
    brokers.ok_or_else(|| "must be a list of brokers, host:port, separated by commas".to_owned())
}

fn broker_of(text: &str) -> Option<(String, u16)> {
    // The colons of an IPv6 address are inside its brackets.
    let name_end = text.find(']').map_or(0, |bracket| bracket + 1);
    let (name, port) = match text[name_end..].split_once(':') {
        Some((rest, port)) => (&text[..name_end + rest.len()], port.parse().ok().filter(|port| *port > 0)?),
        None => (text, PORT),
    };
    Host::parse(name).ok()?;
    Some((name.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, expected: &[(&str, u16)]) {
        let expected: Vec<_> = expected.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
        assert_eq!(parse(list), Ok(expected), "{list}");
    }

    #[test]
    fn brokers_are_read_with_their_ports() {
        check("a", &[("a", 9092)]);
        check("a:1, b.example:65535 ,10.0.0.1", &[("a", 1), ("b.example", 65535), ("10.0.0.1", 9092)]);
        check("[::1]:1,[fd00::2]", &[("::1", 1), ("fd00::2", 9092)]);
    }

    #[test]
    fn what_is_no_broker_is_refused() {
        for list in ["", "a,", ",", "a:0", "a:65536", "a:x", "a:1:2", "::1", "[::1", "PLAINTEXT://a:1", "a b", "a/b"] {
            assert!(parse(list).is_err(), "{list}");
        }
    }
}
