#!/usr/bin/env bash
# Run a command where only it can see a cluster: own mounts, own network (loopback), own processes.
# When the command ends, everything it started ends with it.
set -euo pipefail
if [[ ${STEADFAST_INSIDE:-} != yes ]]; then
  [[ $(id -u) == 0 ]] || { echo "needs root, in a container or a virtual machine; found user $(id -un)"; exit 1; }
  STEADFAST_INSIDE=yes exec unshare --mount --net --pid --fork --kill-child --mount-proc "$0" "$@"
fi
ip link set lo up
ip address add 192.0.2.1/32 dev lo # slurmdbd does not listen where only 127.0.0.1 is configured
for folder in /etc/slurm /run/munge; do # where SLURM and munge look, whatever we tell them
  mkdir -p $folder
  mount -t tmpfs -o mode=755 tmpfs $folder
done
hosts=$(mktemp)
echo "127.0.0.1 localhost $(hostname) lrdn0001 lrdn0002 lrdn0003" > "$hosts"
mount --bind "$hosts" /etc/hosts # the nodes of the cluster are this machine
status=0
"$@" || status=$? # not exec: this shell reaps what outlives its parent
exit $status
