// Command npcnix-reconciler keeps the NixOS host it runs on at its declared state.
package main
