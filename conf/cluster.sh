#!/bin/bash
# The cluster of conf/2m-2s-sync on this machine: two nameservers, two masters and
# their slaves, as six processes. Two loopback addresses stand for the two hosts,
# so the ports are those of a real one:
#
#   conf/cluster.sh run         start all, wait until whole, stop all with Ctrl-C
#   conf/cluster.sh start       the same in the background
#   conf/cluster.sh status      who is there, who copies whom
#   conf/cluster.sh kill NAME   kill -9 one process, as in an accident
#   conf/cluster.sh up NAME     start it again
#   conf/cluster.sh stop        stop all, in order; what was stored stays
#
# GOMQ is the binary (bin/gomq), GOMQ_CLUSTER the directory (./gomq-cluster) with a
# directory of configuration, data and log for each process: remove it to begin anew.
# GOMQ_HOSTS are other two loopback addresses.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
gomq=${GOMQ:-$tree/bin/gomq}
dir=${GOMQ_CLUSTER:-$PWD/gomq-cluster}
read -r host1 host2 <<<"${GOMQ_HOSTS:-127.0.0.1 127.0.0.2}"
export NAMESRV_ADDR="$host1:9876;$host2:9876"

#       name        host    port   does
members="
        namesrv-1   $host1   9876  nameserver
        namesrv-2   $host2   9876  nameserver
        broker-a    $host1  10911  master
        broker-b    $host2  10911  master
        broker-a-s  $host2  11011  slave-of-broker-a
        broker-b-s  $host1  11011  slave-of-broker-b
"
names() { awk 'NF { print $1 }' <<<"$members"; }
of()    { awk -v name="$1" -v column="$2" '$1 == name { print $column }' <<<"$members"; }
known() { [ -n "$(of "$1" 1)" ] || { echo "$1 is none of: $(names | xargs)"; exit 1; }; }
alive() { [ -f "$dir/$1/pid" ] && kill -0 "$(cat "$dir/$1/pid")" 2>/dev/null; }

# The configuration of one process: the file of conf/2m-2s-sync with this machine's
# addresses and directories, and with log files of 64 MiB instead of 1 GiB.
configure() {
	local name=$1 host file=$dir/$1/gomq.properties
	host=$(of "$name" 2)
	mkdir -p "$dir/$name"
	case $name in
	namesrv-*) printf 'listenHost=%s\nhttpHost=%s\nkvConfigPath=%s\n' "$host" "$host" "$dir/$name/kvConfig.json" >"$file" ;;
	*)
		sed -e "s|^namesrvAddr=.*|namesrvAddr=$NAMESRV_ADDR|" \
			-e "s|=/rocketmq/|=$dir/$name/|" \
			-e "s|^mapedFileSizeCommitLog=.*|mapedFileSizeCommitLog=67108864|" "$tree/conf/2m-2s-sync/$name.properties" >"$file"
		printf 'brokerIP1=%s\nbrokerIP2=%s\nlistenHost=%s\nhttpHost=%s\n' "$host" "$host" "$host" "$host" >>"$file"
		;;
	esac
}

up() {
	known "$1"
	if alive "$1"; then echo "$1 runs already"; return; fi
	configure "$1"
	local role=broker
	case $1 in namesrv-*) role=namesrv ;; esac
	set -m # a process group of its own: Ctrl-C is for this script, which stops them in order
	nohup "$gomq" $role -c "$dir/$1/gomq.properties" >"$dir/$1/out" 2>>"$dir/$1/log" </dev/null &
	echo $! >"$dir/$1/pid"
	disown # its end is told by status, not by this shell
	set +m
	for _ in $(seq 300); do
		grep -q "boot success" "$dir/$1/out" && return
		alive "$1" || { echo "$1 did not start:"; tail -n 3 "$dir/$1/log"; exit 1; }
		sleep 0.1
	done
	echo "$1 is not ready after 30 s, see $dir/$1/log"; exit 1
}

end() { # NAME SIGNAL
	known "$1"
	alive "$1" || return 0
	kill "-$2" "$(cat "$dir/$1/pid")"
	while alive "$1"; do sleep 0.1; done
	rm -f "$dir/$1/pid"
}

start() {
	[ -x "$gomq" ] || { echo "$gomq is not there: make build"; exit 1; }
	for name in $(names); do up "$name"; done
	printf '\n%-12s%-18s%-20s%s\n' PROCESS ADDRESS "" DIRECTORY
	for name in $(names); do
		printf '%-12s%-18s%-20s%s\n' "$name" "$(of "$name" 2):$(of "$name" 3)" "$(of "$name" 4 | tr - ' ' | sed 's/broker /broker-/')" "$dir/$name"
	done
	printf '\nWaiting until every slave copies its master '
	for _ in $(seq 60); do
		if whole; then
			printf '\n\n' && status && say && return
		fi
		printf . && sleep 1
	done
	echo && status
	echo "not whole after 60 s; the logs are $dir/*/log"; exit 1
}

# Four brokers are registered and nothing is wrong.
whole() {
	local json
	json=$("$gomq" cluster status -o json) && [ "$(grep -c '"logEnd"' <<<"$json")" = 4 ]
}

status() { "$gomq" cluster status; }

say() {
	cat <<END

The nameservers for clients: $NAMESRV_ADDR

  send    $gomq bench send --addr $host1:10911 --time 2s
  look    $0 status
  break   $0 kill broker-a
  mend    $0 up broker-a
  stop    Ctrl-C here, or $0 stop
END
}

stop() { for name in $(names | tac); do end "$name" TERM; done; }

case "${1:-}" in
run)    trap 'echo; echo stopping; stop' EXIT
        trap 'exit 0' INT TERM
        start
        while :; do sleep 1; done ;;
start)  start ;;
status) status ;;
kill)   end "${2:-}" KILL ;;
up)     up "${2:-}" ;;
stop)   stop ;;
*)      sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 1 ;;
esac
