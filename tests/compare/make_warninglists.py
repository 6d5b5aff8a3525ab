#!/usr/bin/env python3
"""Writes `shared/indicator/data/warninglists.jsonl.gz`: the warninglists that are compiled in.

    tests/compare/make_warninglists.py FOLDER…

Each FOLDER holds lists as misp-warninglists does, `lists/NAME/list.json`; of a list that stands in several, the first counts.
To refresh: a clone of https://github.com/MISP/misp-warninglists alone. Writes a list a line, by name, without its description and
without spaces; equal lists give equal bytes. Says the version of each, for the README beside it. Standard library alone.
"""

import gzip
import io
import json
import pathlib
import sys

TARGET = pathlib.Path(__file__).parents[2] / "shared/indicator/data/warninglists.jsonl.gz"

# The README says which are left away, and why.
NAMES = """
    akamai alexa amazon-aws apple automated-malware-analysis bank-website captive-portals censys-scanning check-host-net
    cisco_top1000 cloudflare common-contact-emails common-ioc-false-positive dax30 disposable-email eicar.com empty-hashes
    fastly findip-host github google google-gcp google-gmail-sending-ips googlebot ipv6-linklocal link-in-bio lots-project
    microsoft microsoft-attack-simulator microsoft-azure microsoft-azure-china microsoft-azure-germany microsoft-azure-us-gov
    microsoft-office365 microsoft-office365-cn microsoft-office365-ip microsoft-win10-connection-endpoints moz-top500
    mozilla-CA multicast onyphe-scanner openai-gptbot parking-domain parking-domain-ns public-dns-v4
    public-dns-v6 public-ipfs-gateways rfc1918 rfc3849 rfc5735 rfc6598 rfc6761 second-level-tlds security-provider-blogpost
    shadowserver shodan-scanning sinkholes smtp-receiving-ips smtp-sending-ips stackpath tenable-cloud-ipv4
    tenable-cloud-ipv6 tlds tranco10k umbrella-blockpage-hostname umbrella-blockpage-v4 umbrella-blockpage-v6
    university_domains url-shortener whats-my-ip wikimedia zscaler
""".split()


def main() -> None:
    folders = [pathlib.Path(folder) for folder in sys.argv[1:]]
    if not folders:
        sys.exit(__doc__)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as target:
        for name in NAMES:
            paths = [folder / "lists" / name / "list.json" for folder in folders]
            path = next((path for path in paths if path.exists()), None)
            if path is None:
                print(f"{name}: not there")
                continue
            told = json.loads(path.read_text("utf-8"))
            told.pop("description", None)
            line = json.dumps(told, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            target.write(line.encode() + b"\n")
            print(f"{name} {told['version']}: {len(told['list'])}, {told['type']}")
    TARGET.write_bytes(packed.getvalue())
    print(f"{TARGET}: {len(packed.getvalue())} bytes")


if __name__ == "__main__":
    main()
