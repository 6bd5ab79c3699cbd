// Package run starts processes; nothing else does. Commands are argument
// vectors, never shell strings, with an environment that names each variable.
// Every process is the leader of its own group, has a limit, and its output is
// bounded. When it is stopped its descendants are stopped too, and what it left
// behind when it ended by itself, unless it may.
//
// Only nixos/local and cmd use it, and nothing else may import os/exec.
package run
