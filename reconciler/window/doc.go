// Package window says when a host may be changed: a pure function of a
// MaintenanceWindow and an instant, by the calendar of its time zone.
//
// A calendar day is not 24 hours everywhere, an hour can happen twice or not at
// all, and so can a whole day; time.Date picks something for each of them. Here
// a local time is turned into an instant by walking the zone's own transitions.
//
// Packages plan, host and cmd use it.
package window
