{
  motd = "web-2 at your service";
}
