//! The picture: bars that say how many times the rival's figure ours is, so that every line reads the same way.

use super::table::{number, ratio_text};
use super::{Kind, Met, Report, Row};
use crate::stats::median;

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 520.0;
const BAR: f64 = 330.0;
const LINE: f64 = 26.0;
/// Ratios beyond this are drawn as long as this.
const LONGEST: f64 = 4.0;

pub(super) fn picture(report: &Report) -> String {
    let rows: Vec<(&Row, f64, String)> = report.rows.iter().filter_map(advantage).collect();
    let height = 70.0 + LINE * rows.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\" fill=\"#1f2933\">How many times better than its rival in the same rounds</text>\n"
    );
    let one = LEFT + BAR / LONGEST;
    let bottom = height - 24.0;
    svg.push_str(&format!(
        "<line x1=\"{one}\" y1=\"34\" x2=\"{one}\" y2=\"{bottom}\" stroke=\"#7b8794\" stroke-dasharray=\"3 3\"/>\n\
         <text x=\"{one}\" y=\"{}\" text-anchor=\"middle\" fill=\"#52606d\">1 ×: as good as the rival</text>\n",
        height - 8.0
    ));
    for (index, (row, ratio, rival)) in rows.iter().enumerate() {
        let top = 40.0 + LINE * index as f64;
        let length = ratio.min(LONGEST) / LONGEST * BAR;
        let colour = match row.met() {
            Met::Yes => "#2f855a",
            Met::No => "#c05621",
            _ => "#4a6fa5",
        };
        let label = escaped(&format!("{} {}", row.id, row.metric));
        let ours = median(&row.ours).map(number).unwrap_or_default();
        svg.push_str(&format!(
            "<g><title>{label}: {ours} {}, {rival}</title>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#1f2933\">{label}</text>\n\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"17\" rx=\"2\" fill=\"{colour}\"/>\n\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#1f2933\">{}</text></g>\n",
            escaped(row.unit),
            LEFT - 8.0,
            top + 13.0,
            LEFT + length + 6.0,
            top + 13.0,
            escaped(&format!("{} {rival}", ratio_text(*ratio))),
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// How many times better than the best peer, the limit or the base; nothing where there is none, or nothing to divide.
fn advantage(row: &Row) -> Option<(&Row, f64, String)> {
    let (rival, what) = [(Kind::Peer, "the best peer"), (Kind::Limit, "the limit"), (Kind::Base, "base")]
        .into_iter()
        .find_map(|(kind, what)| Some((row.best(kind)?, what)))?;
    let ratio = row.ratio(rival)?;
    let ratio = if row.higher_is_better { ratio } else { 1.0 / ratio };
    ratio.is_finite().then(|| (row, ratio, what.to_owned()))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_better_is_longer() {
        let mut report = Report::default();
        let mut rate = Row::rate("P5", "a & b", "runs/s");
        rate.add_product("ours", 200.0);
        rate.add("peer", Kind::Peer, 100.0);
        let mut time = Row::new("P4", "now", "ms");
        time.add_product("ours", 2.0);
        time.add("peer", Kind::Peer, 4.0);
        report.rows = vec![rate, time];
        let svg = picture(&report);
        assert_eq!(svg.matches("2.00 ×").count(), 2, "{svg}");
        assert!(svg.contains("a &amp; b"), "{svg}");
    }
}
