// Package systemd asks the machine's service manager: for transient units that
// outlive this process, for the state of units, for a reboot. It speaks D-Bus
// over the manager's own socket, which does not depend on the bus daemon, and
// connects anew whenever a connection broke, as daemon-reexec does to each.
//
// Only nixos/local and cmd use it.
package systemd
