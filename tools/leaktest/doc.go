// Package leaktest ends a package's tests with a look at what they left behind:
// goroutines and descriptors. It is for TestMain.
//
// Only tests use it.
package leaktest
