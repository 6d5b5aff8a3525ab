use std::process::ExitCode;

fn main() -> ExitCode {
    rss::main_of("collect_all_rss_feeds")
}
