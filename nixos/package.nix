# Both programs. npcnix-reconciler is for Linux only.
{ lib, stdenv, buildGoModule, version ? "dev" }:

buildGoModule {
  pname = "npcnix";
  inherit version;
  src = lib.cleanSource ../.;

  # Kept fresh by a test: the hash of what `go mod vendor` writes.
  vendorHash = "sha256-KWuafvRW/aQ9rBdAUJpV48qXuXDuxnQ40oGGGxmg6UQ=";

  subPackages = [ "cmd/npcnix" ] ++ lib.optional stdenv.hostPlatform.isLinux "cmd/npcnix-reconciler";
  env.CGO_ENABLED = 0;
  ldflags = [ "-s" "-w" ];
  doCheck = false; # the tests need Nix itself and an S3 server: make test

  meta = {
    description = "Keep fleets of NixOS machines at their declared state";
    homepage = "https://github.com/npcnix/npcnix";
    license = lib.licenses.asl20;
    mainProgram = "npcnix";
  };
}
