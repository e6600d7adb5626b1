// The package's index loads its drivers for all databases, 10 MB of them; it has types for that alone.
declare module 'rate-limiter-flexible/lib/RateLimiterMemory.js' {
  export { RateLimiterMemory as default } from 'rate-limiter-flexible';
}
