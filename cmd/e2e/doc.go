// Package e2e tests the programs as a whole: real processes, real Nix, a
// directory and a real S3 server. It holds nothing but tests.
package e2e
