// Package codec turns the bytes of YAML documents into the values of package
// v1alpha1 and back.
//
// Writers decode strictly: every unknown or duplicate field, wrong type and
// invalid value of a file is told at once, with file, line, field path and the
// nearest name that exists. Hosts decode leniently what machines wrote. The
// encoder is stable: the same object gives the same bytes.
//
// Whoever reads or writes documents uses it; it imports only apis. YAML is its alone.
package codec
