# Sourced by .ci/run: a PostgreSQL server for the tests, which must then run. Sets BURSAR_TEST_POSTGRES where it starts one.
# And PgBouncer and PostgreSQL's programs where they can be installed; tests that need them are skipped where they cannot.
export BURSAR_REQUIRE_POSTGRES=1

answers() {
	.venv/bin/python -c 'import psycopg, sys; psycopg.connect(sys.argv[1].replace("+psycopg", "", 1), connect_timeout=3).close()' \
		"${BURSAR_TEST_POSTGRES:-postgresql://postgres@127.0.0.1:5432/postgres}" 2>/dev/null
}

can_install() {
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

install() {
	echo "Installing $1"
	apt-get update -qq >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

programs() {
	command -v initdb || find /usr/lib/postgresql /usr/local/pgsql /opt/homebrew -name initdb -path '*bin*' 2>/dev/null | sort -V | tail -n 1
}

as_owner() {  # PostgreSQL refuses to run as root
	if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

stop_own() {
	as_owner "$postgres_bin/pg_ctl" -D "$cluster/data" -m immediate stop >/dev/null 2>&1 || true
	rm -rf "$cluster"
}

start_own() {
	local initdb port
	initdb=$(programs || true)
	if [ -z "$initdb" ] && can_install; then
		install postgresql
		initdb=$(programs || true)
	fi
	if [ -z "$initdb" ]; then
		echo "No PostgreSQL server: start one and set BURSAR_TEST_POSTGRES=postgresql+psycopg://user@host/database, or install PostgreSQL" >&2
		exit 1
	fi
	postgres_bin=$(dirname "$initdb")
	cluster=$(mktemp -d)
	[ "$(id -u)" != 0 ] || chown postgres "$cluster"
	port=$(.venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	as_owner "$postgres_bin/initdb" -D "$cluster/data" -U postgres -A trust -E UTF8 --locale=C >/dev/null
	trap stop_own EXIT
	as_owner "$postgres_bin/pg_ctl" -D "$cluster/data" -w -l "$cluster/log" start \
		-o "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$cluster -c fsync=off" >/dev/null
	export BURSAR_TEST_POSTGRES="postgresql+psycopg://postgres@127.0.0.1:$port/postgres"
}

answers || start_own
answers || { echo "PostgreSQL was started and does not answer at $BURSAR_TEST_POSTGRES" >&2; exit 1; }

[ -n "$(programs || true)" ] || ! can_install || install postgresql || echo "Tests that restart PostgreSQL are skipped"
command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || ! can_install || install pgbouncer ||
	echo "PgBouncer could not be installed: its tests are skipped"
