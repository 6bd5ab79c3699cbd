// Package local is the machine it runs on: the roles of package nixos over the
// real commands, nix, nix-env and switch-to-configuration.
//
// Only cmd names it; whoever needs a machine asks for the roles of package nixos.
package local
