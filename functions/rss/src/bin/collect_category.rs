use std::process::ExitCode;

fn main() -> ExitCode {
    rss::main_of("collect_category")
}
