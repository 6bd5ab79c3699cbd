{
  motd = "db-1 at your service";
}
