// Package nixfake is a machine in memory, for tests and simulations. It keeps
// the contract of package nixostest, follows a script where one is given, and
// journals the calls that change something.
//
// Only tests use it.
package nixfake
