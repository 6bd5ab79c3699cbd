// Package mem is a store in memory, for tests and simulations. It is a test's
// stand-in for S3 and passes the same contract.
//
// Only tests use it.
package mem
