// Package fault is a store for bad days: a decorator that lets requests fail,
// take long, lose their replies or break off as its script says, and one that
// gives equal bytes new ETags, as encrypted buckets do. It is for tests alone;
// without a script it keeps the contract of package storetest.
package fault
