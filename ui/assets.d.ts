/** Style sheets are imported for their effect only; Vite takes them out into a file. */
declare module "*.css";
