//! The environment of a function's process: nothing of the runner's own, and in three layers.
//!
//! Defaults, which the function's declaration may replace; the declared variables; Lambda's reserved names, which
//! nothing replaces. `AWS_REGION` is reserved at AWS and a default here, since there is no region to be true to: a
//! function that reads a real bucket must be able to name the bucket's. `AWS_EXECUTION_ENV` is left out, as AWS leaves
//! it out for compiled functions, and `AWS_LAMBDA_MAX_CONCURRENCY` because `lambda_runtime` warns about it at each start.

use std::collections::BTreeMap;

use super::function::Function;
use super::wire::{HANDLER, REGION, VERSION};

/// Declaring one of these means that the function brings its own credentials.
const CREDENTIALS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];

/// All variables of one process. `origin` is where the runner listens, as `http://127.0.0.1:9000`.
pub(super) fn of(function: &Function, origin: &str, instance: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: &str| {
        all.insert(name.to_owned(), value.to_owned());
    };
    set("PATH", "/usr/local/bin:/usr/bin:/bin");
    set("LANG", "C.UTF-8");
    set("TZ", ":UTC");
    set("AWS_REGION", REGION);
    set("AWS_DEFAULT_REGION", REGION);
    // PutEvents comes back to this listener. The SDK signs each request and would otherwise look for credentials at
    // the address of EC2's metadata service, which costs seconds where there is none.
    set("AWS_ENDPOINT_URL_EVENTBRIDGE", origin);
    set("AWS_EC2_METADATA_DISABLED", "true");
    if !function.env.iter().any(|(name, _)| CREDENTIALS.contains(&name.as_str())) {
        set("AWS_ACCESS_KEY_ID", "local");
        set("AWS_SECRET_ACCESS_KEY", "local");
    }

    for (name, value) in &function.env {
        set(name, value);
    }

    let name = function.name.as_str();
    set("AWS_LAMBDA_FUNCTION_NAME", name);
    set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &function.memory_mb.to_string());
    set("AWS_LAMBDA_FUNCTION_VERSION", VERSION);
    set("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand");
    set("AWS_LAMBDA_LOG_GROUP_NAME", &format!("/aws/lambda/{name}"));
    set("AWS_LAMBDA_LOG_STREAM_NAME", instance);
    set("AWS_LAMBDA_RUNTIME_API", &format!("{origin}/f/{name}/{instance}"));
    set(
        "LAMBDA_TASK_ROOT",
        &function.program.parent().unwrap_or(&function.program).to_string_lossy(),
    );
    set("_HANDLER", HANDLER);
    // Tells the process to ask the kernel for a signal when the runner dies: only the process itself can ask.
    set("MINERVA_RUNNER", "1");
    all.remove("AWS_LAMBDA_MAX_CONCURRENCY");
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(env: &[(&str, &str)]) -> Function {
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Function { env, ..Function::new("f", "/opt/f/bootstrap") }
    }

    #[test]
    fn a_declared_variable_replaces_a_default_but_no_reserved_name() {
        let env =
            [("AWS_REGION", "sa-east-1"), ("AWS_LAMBDA_FUNCTION_NAME", "x"), ("AWS_PROFILE", "p")];
        let all = of(&function(&env), "http://127.0.0.1:9000", "i-1");
        assert_eq!(all["AWS_REGION"], "sa-east-1");
        assert_eq!(all["AWS_DEFAULT_REGION"], "local");
        assert_eq!(all["AWS_LAMBDA_FUNCTION_NAME"], "f");
        assert_eq!(all["AWS_LAMBDA_RUNTIME_API"], "http://127.0.0.1:9000/f/f/i-1");
        assert_eq!(all["LAMBDA_TASK_ROOT"], "/opt/f");
        assert!(!all.contains_key("AWS_ACCESS_KEY_ID"));
    }

    #[test]
    fn nothing_of_the_runners_own_environment_is_passed_on() {
        let all = of(&function(&[]), "http://127.0.0.1:9000", "i-1");
        assert!(!all.contains_key("HOME") && !all.contains_key("CARGO_MANIFEST_DIR"));
    }
}
