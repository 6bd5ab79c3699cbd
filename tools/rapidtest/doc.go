// Package rapidtest makes a package's property tests try more than rapid does by
// itself. It is for TestMain, and for tests alone.
package rapidtest
