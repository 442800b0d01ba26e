#!/bin/sh
# Installs the gateway's program: takes a token of this machine's identity,
# reads the program's address from the key vault, downloads it, and puts it in
# place when its SHA-256 is right. Tries until it succeeds. Secrets go through
# files that only root reads and through standard input, never through arguments.
set -eu
umask 077

metadata=@METADATA@
audience=@AUDIENCE@
client_id=@CLIENT_ID@
secret_url=@SECRET_URL@
sha256=@SHA256@

root=${OPENCMG_ROOT:-}
program=$root/usr/local/lib/opencmg/opencmg
new=$program.new
system_ca=${CURL_CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}

say() { printf 'opencmg fetch: %s\n' "$*" >&2; }

matches() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -d ' ' -f 1)" = "$sha256" ]; }

if matches "$program"; then
	exit 0
fi
if ! command -v curl >/dev/null 2>&1; then
	say "there is no curl, installing it"
	DEBIAN_FRONTEND=noninteractive apt-get update -qq || true
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq curl ca-certificates || true
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# call calls curl as this machine must: without a .curlrc, with the additional
# CAs, and silent but for errors.
call() {
	curl -q --config "$root/etc/opencmg/curl.conf" --cacert "$tmp/ca.pem" \
		--silent --show-error --fail --connect-timeout 10 "$@"
}

# field prints a string of a JSON object, with the escapes that an address can
# have undone.
field() {
	sed -n 's/.*"'"$1"'"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' "$2" | sed -e 's,\\/,/,g' \
		-e 's/\\u0026/\&/g' -e 's/\\u003[dD]/=/g' -e 's/\\u002[bB]/+/g' -e 's/\\u0025/%/g'
}

# Each step returns whether it worked: set -e does not count inside a condition.
attempt() {
	{ cat "$system_ca" 2>/dev/null || true; } >"$tmp/ca.pem"
	if [ -f "$root/etc/opencmg/ca.pem" ]; then
		cat "$root/etc/opencmg/ca.pem" >>"$tmp/ca.pem"
	fi

	set -- --get --data-urlencode api-version=2018-02-01 --data-urlencode "resource=$audience"
	if [ -n "$client_id" ]; then
		set -- "$@" --data-urlencode "client_id=$client_id"
	fi
	call --noproxy '*' --max-time 30 -H 'Metadata: true' "$@" -o "$tmp/token" "$metadata/metadata/identity/oauth2/token" ||
		{ say "no token from the metadata service"; return 1; }
	{ printf 'Authorization: Bearer ' && field access_token "$tmp/token"; } >"$tmp/authorization"

	call --proto =https --max-time 30 -H @"$tmp/authorization" -o "$tmp/secret" "$secret_url" ||
		{ say "the key vault does not give the program's address; waiting for the site to write it, or for access"; return 1; }
	address=$(field value "$tmp/secret")
	case $address in
	*[\"\\\ ]*) say "the program's address is not usable"; return 1 ;;
	https://*) ;;
	*) say "the program's address is not an https address"; return 1 ;;
	esac

	printf 'url = "%s"\n' "$address" |
		call --proto =https --max-time 1800 --speed-limit 1000 --speed-time 60 --config - -o "$new" ||
		{ say "the program can not be downloaded"; return 1; }
	matches "$new" ||
		{ say "the downloaded program has another SHA-256 than this machine was told, it is not used"; return 1; }
	chmod 0755 "$new" && mv -f "$new" "$program"
}

mkdir -p "${program%/*}"
chmod 0755 "${program%/*}"
pause=${OPENCMG_PAUSE:-2}
until attempt; do
	rm -f "$new"
	sleep "$pause"
	pause=$((pause * 2))
	if [ "$pause" -gt 60 ]; then
		pause=60
	fi
done
say "the program is in place"
