// Command npcnix publishes configurations, declares hosts, and shows the fleet.
package main
