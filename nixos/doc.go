// Package nixos says what the reconciler needs of a NixOS machine: a few types
// and one small interface for each role. Package local fulfils them with the
// real commands, package nixfake with a script; nixostest is their contract.
//
// Words: a toplevel is the store path of a built system. Its program
// bin/switch-to-configuration is called stc here.
//
// Package host uses the roles, packages local and nixfake fulfil them.
package nixos
