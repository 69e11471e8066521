//! Comma-separated values: RFC 4180, and safe to open in a spreadsheet.
//!
//! Invariant: a cell's text never becomes a formula; what a program reads back is the text, with an apostrophe in
//! front where it began like one.

/// What a spreadsheet takes for the beginning of a formula.
const FORMULA_STARTS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// Adds a line.
pub(super) fn line<T: AsRef<str>>(text: &mut String, cells: impl IntoIterator<Item = T>) {
    for (number, cell) in cells.into_iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        add_cell(text, cell.as_ref());
    }
    text.push_str("\r\n");
}

fn add_cell(text: &mut String, cell: &str) {
    let guard = if cell.starts_with(FORMULA_STARTS) { "'" } else { "" };
    if cell.contains(['"', ',', '\r', '\n']) {
        text.push('"');
        text.push_str(guard);
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(guard);
        text.push_str(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cells: &[&str], expected: &str) {
        let mut text = String::new();
        line(&mut text, cells);
        assert_eq!(text, format!("{expected}\r\n"), "{cells:?}");
    }

    #[test]
    fn cells_are_quoted_where_they_have_to_be() {
        check(&["a", "", "ü 🎺"], "a,,ü 🎺");
        check(&["a,b", "say \"hi\"", "two\nlines", "x\ry"], "\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",\"x\ry\"");
    }

    #[test]
    fn no_cell_begins_like_a_formula() {
        check(&["=1+1", "+1", "-1", "@A1", "\tx", "a=1"], "'=1+1,'+1,'-1,'@A1,'\tx,a=1");
        check(&["=HYPERLINK(\"http://x\",\"y\")", "\rx"], "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\",\"'\rx\"");
    }
}
