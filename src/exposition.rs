//! The two forms of `/metrics`: OpenMetrics, which the registry writes, and the text format 0.0.4, which every scraper
//! reads and promtool checks.
//!
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

/// Media type of OpenMetrics.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Media type of the text format.
pub(crate) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Versions of OpenMetrics that read alike.
const VERSIONS: [&str; 3] = ["", "1.0.0", "0.0.1"];

/// Whether an `Accept` header (RFC 9110, section 12.5.1) names OpenMetrics, and not the text format before it.
pub(crate) fn wants_open_metrics(accept: &str) -> bool {
    let (mut open_metrics, mut text) = (0.0_f64, 0.0_f64);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |wanted: &str| {
            let found = parameters.iter().find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
            found.map_or("", |(_, value)| value.trim().trim_matches('"'))
        };
        let weight = parameter("q").parse().unwrap_or(1.0);
        match kind.as_str() {
            "application/openmetrics-text" if VERSIONS.contains(&parameter("version")) => {
                open_metrics = open_metrics.max(weight);
            }
            "text/plain" => text = text.max(weight),
            _ => {}
        }
    }
    open_metrics > 0.0 && open_metrics >= text
}

/// OpenMetrics in the text format: a counter is described by its full name, information is a gauge, and there are
/// neither units nor an end. (Nothing here has exemplars.)
pub(crate) fn as_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // Its name is known once the type is, which follows.
            help = described.split_once(' ').map_or("", |(_name, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|described| described.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            // Quotes are escaped there and not here.
            let help = help.replace("\\\"", "\"");
            text.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_are_for_who_asks_for_them() {
        for (accept, expected) in [
            ("", false),
            ("*/*", false),
            ("text/plain", false),
            ("application/json", false),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", true),
            ("application/openmetrics-text;version=\"1.0.0\";q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
            ("application/openmetrics-text;version=2.0.0", false),
            ("application/openmetrics-text;q=0", false),
            ("text/plain, application/openmetrics-text;q=0.5", false),
            // What Prometheus 3 sends.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;\
                 version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
                 */*;q=0.2",
                true,
            ),
        ] {
            assert_eq!(wants_open_metrics(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_text_format_says_the_same() {
        let open_metrics = "# HELP a_b Say \\\"b\\\".\n# TYPE a_b counter\na_b_total{x=\"1 # 2\"} 5\n# HELP build Version.\n\
                            # TYPE build info\nbuild_info{version=\"1\"} 1\n# HELP s_seconds Time.\n# TYPE s_seconds histogram\n\
                            # UNIT s_seconds seconds\ns_seconds_sum 0.5\ns_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let text = "# HELP a_b_total Say \"b\".\n# TYPE a_b_total counter\na_b_total{x=\"1 # 2\"} 5\n# HELP build_info Version.\n\
                    # TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n# HELP s_seconds Time.\n# TYPE s_seconds histogram\n\
                    s_seconds_sum 0.5\ns_seconds_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(as_text(open_metrics), text);
    }
}
