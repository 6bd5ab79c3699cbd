// Package nixostest is the contract of a machine: what package local does with
// real Nix and package nixfake pretends to. Each lists what it cannot show; what
// neither shows is a fault of this package.
//
// Only the tests of those who provide a machine use it.
package nixostest
