//! The values of settings that name a place instead: read from files, and from AWS with one signed request for all
//! parameters of a path.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base::config::{Aws, Config, DeclaredSettings, variable};
use base::place::{self, Place};
use base::{Error, Result};
use object_store::ClientOptions;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpConnector as _, HttpRequest, ReqwestConnector};
use serde_json::{Value, json};
use tokio::time::timeout;
use url::Url;

use crate::files::signing;

/// How long all values may take: Lambda gives a function 10 s to start, and a failure is tried once more.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Pages of parameters below one path that are read; a page has ten.
const PAGES_MAX: usize = 10;

/// The longest value, in bytes; a secret of Secrets Manager has no more.
const VALUE_MAX: u64 = 64 * 1024;

/// The settings of this process, wherever their values stand.
///
/// # Errors
/// `Config`, with what is wrong; `Upstream`, when a store of secrets does not answer.
pub async fn config(families: &[DeclaredSettings]) -> Result<Config> {
    let values = values(&variable, families).await?;
    Config::from_lookup(&|name| values.get(name).cloned().or_else(|| variable(name)), families)
}

/// The value of each setting that names a place.
///
/// # Errors
/// As [`config`], naming setting and place.
pub async fn values(
    lookup: &(dyn Fn(&str) -> Option<String> + Sync),
    families: &[DeclaredSettings],
) -> Result<BTreeMap<&'static str, String>> {
    let places = place::named(lookup, families);
    let wrong = |(name, place): &(&str, Result<Place, String>)| {
        place.as_ref().err().map(|says| format!("`{name}`: {says}"))
    };
    let problems: Vec<String> = places.iter().filter_map(wrong).collect();
    if !problems.is_empty() {
        return Err(Config::refused(&problems));
    }
    let (mut values, mut remote) = (BTreeMap::new(), Vec::new());
    for (name, place) in places.into_iter().filter_map(|(name, place)| Some((name, place.ok()?))) {
        if let Place::File(path) = place {
            let text = file(&path).await.map_err(|cause| {
                Error::config(format!("read `{name}` from `{}`", path.display()))
                    .because(cause)
                    .hint("`file:` and a path name a file that holds the value and nothing else")
            })?;
            values.insert(name, text);
        } else {
            remote.push((name, place));
        }
    }
    if remote.is_empty() {
        return Ok(values);
    }
    // Only how AWS is reached counts here; what is wrong with the rest is told when all is known.
    let aws =
        Config::check(&|name| values.get(name).cloned().or_else(|| lookup(name)), families).0.aws;
    let read = timeout(TIMEOUT, Vault::of(&aws)?.values(&remote)).await;
    values.extend(read.unwrap_or_else(|_| {
        let wanted = remote.iter().map(|(name, place)| format!("`{name}` from `{place}`"));
        let wanted: Vec<String> = wanted.collect();
        Err(Error::upstream(format!("read {}: no answer in {TIMEOUT:?}", wanted.join(", "))).hint(
            "a function in a VPC reaches AWS through an endpoint or a NAT gateway, or not at all",
        ))
    })?);
    Ok(values)
}

async fn file(path: &std::path::Path) -> std::io::Result<String> {
    let said = |says: String| std::io::Error::other(says);
    let size = tokio::fs::metadata(path).await?.len();
    if size > VALUE_MAX {
        return Err(said(format!("it has {size} bytes, and a value at most {VALUE_MAX}")));
    }
    let text = tokio::fs::read_to_string(path).await?;
    match text.trim() {
        "" => Err(said("it is empty".to_owned())),
        text => Ok(text.to_owned()),
    }
}

/// AWS's stores of secrets.
struct Vault<'a> {
    aws: &'a Aws,
    region: &'a str,
}

impl<'a> Vault<'a> {
    fn of(aws: &'a Aws) -> Result<Self> {
        let region = aws.region.as_deref().ok_or_else(|| {
            Error::config("read settings from AWS: `AWS_REGION` is unset")
                .hint("it names the region whose parameters and secrets are meant")
        })?;
        Ok(Self { aws, region })
    }

    /// The values that stand in AWS: all parameters of a path in one request, each secret in one.
    async fn values(
        &self,
        places: &[(&'static str, Place)],
    ) -> Result<Vec<(&'static str, String)>> {
        let path = |(_, place): &(&str, Place)| match place {
            Place::Parameter(name) => name.rsplit_once('/').map(|(path, _)| path.to_owned()),
            _ => None,
        };
        let paths: BTreeSet<String> = places.iter().filter_map(path).collect();
        let mut parameters = BTreeMap::new();
        for path in paths {
            parameters.extend(self.parameters(&path).await?);
        }
        let mut values = Vec::new();
        for (name, place) in places {
            let value = match place {
                Place::Secret(arn) => Some(self.secret(arn).await?),
                Place::Parameter(path) => parameters.get(path).cloned(),
                Place::File(_) => None,
            };
            let value = value.ok_or_else(|| {
                Error::config(format!("read `{name}` from `{place}`: there is none"))
                    .hint("`aws ssm put-parameter --type SecureString` makes it, in the function's region")
            })?;
            values.push((*name, value));
        }
        Ok(values)
    }

    /// The parameters right below a path, by their whole names.
    async fn parameters(&self, path: &str) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        let mut page = Value::Null;
        let path = if path.is_empty() { "/" } else { path };
        for _ in 0..PAGES_MAX {
            let mut body = json!({"Path": path, "WithDecryption": true});
            if page.is_string() {
                body["NextToken"] = page;
            }
            let endpoint = self.aws.ssm_endpoint_url.as_ref();
            let place = format!("ssm:{path}/");
            let action = "AmazonSSM.GetParametersByPath";
            let answer = self.ask("ssm", endpoint, action, &body, &place).await?;
            for one in answer["Parameters"].as_array().into_iter().flatten() {
                if let (Some(name), Some(value)) = (one["Name"].as_str(), one["Value"].as_str()) {
                    all.insert(name.to_owned(), value.to_owned());
                }
            }
            page = answer["NextToken"].clone();
            if page.is_null() {
                break;
            }
        }
        Ok(all)
    }

    async fn secret(&self, arn: &str) -> Result<String> {
        let endpoint = self.aws.secrets_endpoint_url.as_ref();
        let (action, body) = ("secretsmanager.GetSecretValue", json!({"SecretId": arn}));
        let answer = self.ask("secretsmanager", endpoint, action, &body, arn).await?;
        let value = answer["SecretString"].as_str().map(ToOwned::to_owned);
        value.ok_or_else(|| Error::config(format!("read `{arn}`: it holds no text")))
    }

    /// One signed request of the protocol `awsJson1_1`, and its answer.
    async fn ask(
        &self,
        service: &str,
        endpoint: Option<&Url>,
        action: &str,
        body: &Value,
        place: &str,
    ) -> Result<Value> {
        let address = endpoint.map_or_else(
            || format!("https://{service}.{}.amazonaws.com/", self.region),
            |url| url.as_str().to_owned(),
        );
        let failed =
            |cause: object_store::Error| Error::upstream(format!("read `{place}`")).because(cause);
        // A bucket's builder is what the crate signs with; the bucket itself is never asked for.
        let signer = signing(self.aws).with_bucket_name("none").build().map_err(failed)?;
        let key = signer.credentials().get_credential().await.map_err(|cause| {
            Error::config(format!("find a key to read `{place}` with")).because(cause)
        })?;
        let options = ClientOptions::new().with_timeout(TIMEOUT).with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options).map_err(failed)?;
        let mut request = HttpRequest::new(body.to_string().into());
        *request.method_mut() = "POST".parse().expect("it is a method");
        *request.uri_mut() = address.parse().map_err(|cause| {
            Error::config(format!("read the address `{address}`")).because(cause)
        })?;
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", action)];
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().expect("it is plain text"));
        }
        AwsAuthorizer::new(&key, service, self.region)
            .try_authorize(&mut request, None)
            .map_err(failed)?;
        let answer = client
            .execute(request)
            .await
            .map_err(|cause| Error::upstream(format!("read `{place}`")).because(cause))?;
        let (status, body) = (answer.status(), answer.into_body().bytes().await);
        let body =
            body.map_err(|cause| Error::upstream(format!("read `{place}`")).because(cause))?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let said = |name: &str| answer[name].as_str().filter(|text| !text.is_empty());
        let words = [said("__type"), said("message").or(said("Message"))];
        let words =
            words.into_iter().flatten().fold(status.to_string(), |all, one| all + ": " + one);
        let says = base::shown::one_line(&words);
        if status.is_server_error() {
            return Err(Error::upstream(format!("read `{place}`: {says}")));
        }
        let action = action.split('.').next_back().unwrap_or_default();
        Err(Error::config(format!("read `{place}`: {says}")).hint(format!(
            "the function's role needs `{service}:{action}` on it, and `kms:Decrypt` where its key is not AWS's own"
        )))
    }
}
