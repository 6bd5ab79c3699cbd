{
  description = "Three hosts for the demonstration: NixOS-shaped systems without nixpkgs";

  # No inputs: evaluating and building never touches the network. A flake of
  # yours has `inputs.nixpkgs` and `nixpkgs.lib.nixosSystem { … }` instead.
  outputs = { self }: {
    nixosConfigurations = builtins.mapAttrs
      (name: _: import ./system.nix name (import (./hosts + "/${name}.nix")))
      { web-1 = null; web-2 = null; db-1 = null; };
  };
}
