//! Any function of the RSS family as it is deployed: the `main` of each of its tasks, but for the name, which Lambda gives.

use std::process::ExitCode;

use base::config;

fn main() -> ExitCode {
    rss::main_of(&config::variable("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default())
}
