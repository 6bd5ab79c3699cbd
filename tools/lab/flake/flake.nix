{
  description = "NixOS-shaped systems without nixpkgs, for tests";

  # No inputs: evaluation and build never touch the network.
  outputs = { self }: {
    nixosConfigurations = builtins.listToAttrs (map
      (file: let name = builtins.replaceStrings [ ".nix" ] [ "" ] file; in {
        inherit name;
        value = import ./system.nix name (import (./hosts + "/${file}"));
      })
      (builtins.attrNames (builtins.readDir ./hosts)));
  };
}
