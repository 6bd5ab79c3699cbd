// Package storetest is the contract that every driver of package store passes.
// A driver's test calls Run with a Harness; so do decorators that must not
// change behaviour.
//
// Only tests of drivers and their decorators use it.
package storetest
