// Package storeurl opens the store that a URL names. It is where the concrete
// drivers are chosen.
//
// The programs use it: it is the one place that names the drivers.
package storeurl
